package sevsnp

import (
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"strings"
)

//go:embed roots/*.pem
var roots embed.FS

// line is a line of processors: how it packs its TCB version, how it names its chips, and AMD's certificates for it.
type line struct {
	name   string
	family uint8
	models [][2]uint8     // first and last
	parts  map[string]int // the byte of a TCB version that a part of it is in, least significant first
	chip   int            // bytes of a chip's id
}

// lines are the ones that are known here. Versions before 3 of the report do not say which it is of; the certificate does.
func lines() []line {
	zen := map[string]int{"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
	return []line{
		{"Milan", 0x19, [][2]uint8{{0x00, 0x0f}}, zen, 64},
		{"Genoa", 0x19, [][2]uint8{{0x10, 0x1f}, {0xa0, 0xaf}}, zen, 64},
		{"Turin", 0x1a, [][2]uint8{{0x00, 0x11}}, map[string]int{"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}, 8},
	}
}

// lineOf finds the line by the product's name in a certificate: "Milan-B0", "Genoa".
func lineOf(product string) (line, error) {
	name, _, _ := strings.Cut(product, "-")
	for _, l := range lines() {
		if l.name == name {
			return l, nil
		}
	}
	return line{}, fmt.Errorf("unknown product %.20q; known are Milan, Genoa and Turin", product)
}

// has reports whether the processor of a report is one of the line.
func (l *line) has(r *report) bool {
	if r.version < cpuidVersion {
		return l.family == 0x19 // the only ones of that time
	}
	for _, m := range l.models {
		if r.family == l.family && r.model >= m[0] && r.model <= m[1] {
			return true
		}
	}
	return false
}

// part is a part of a packed TCB version.
func (l *line) part(tcb uint64, name string) uint8 { return uint8(tcb >> (8 * l.parts[name])) }

// authorities are AMD's certificates for a line.
type authorities struct {
	root    *x509.Certificate            // ARK
	signers map[signer]*x509.Certificate // ASK and ASVK
}

// authoritiesOf reads the certificates of a line: ASK, ASVK, ARK.
func authoritiesOf(name string) (authorities, error) {
	text, err := roots.ReadFile("roots/" + strings.ToLower(name) + ".pem")
	if err != nil {
		return authorities{}, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return authorities{}, err
		}
		all = append(all, c)
	}
	if len(all) != 3 {
		return authorities{}, fmt.Errorf("there are %d certificates for %s, not 3", len(all), name)
	}
	return authorities{root: all[2], signers: map[signer]*x509.Certificate{vcek: all[0], vlek: all[1]}}, nil
}
