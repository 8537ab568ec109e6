package policy

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

func unknownIdentity(name string, have []Identity) error {
	var names []string
	for _, id := range have {
		names = append(names, id.Name)
	}
	return fmt.Errorf("the policy has no identity %q; it has: %s", shorten(name), strings.Join(names, ", "))
}

// drafted are the keys of each platform that a draft takes from measurements, with what they are. Values that are all zero are left out.
var drafted = map[attest.Platform][][2]string{
	attest.SGX: {{"mrenclave", "code and data of the enclave: changes with each build"}, {"mrsigner", "who signed the enclave: this without mrenclave accepts whatever they sign"}},
	attest.TDX: {
		{"mrtd", "the TD's initial memory: virtual firmware"}, {"mrconfigid", "configuration that the host gave"},
		{"mrowner", "owner that the host named"}, {"mrownerconfig", "configuration of the owner"},
		{"rtmr0", "virtual hardware and firmware settings"}, {"rtmr1", "boot loader and kernel"}, {"rtmr2", "kernel's command line and initial RAM disk"},
		{"rtmr3", "what runs measured at run time: of VouchMQ, its module"},
	},
	attest.SEVSNP: {{"measurement", "the guest's initial memory"}, {"host_data", "data that the host gave at launch"}, {"id_key_digest", "who signed the guest's identity block"}},
	attest.TPM:    {{"ak", "the attestation key: this very TPM, if it has been enrolled"}, {"ak_ca", "who has enrolled it, and says to which machine it belongs"}},
	attest.Nitro: {
		{"pcr0", "the enclave's image"}, {"pcr1", "kernel and boot RAM disk"}, {"pcr2", "the application"}, {"pcr3", "IAM role of the parent instance"},
		{"pcr4", "the parent instance: a single machine"}, {"pcr8", "who signed the image"},
	},
	attest.CCA: {
		{"cpak", "the platform's key: this very machine, if its maker has told so"}, {"firmware", "the platform's firmware"}, {"implementation_id", "the make of the platform"},
		{"rim", "the realm's initial memory"}, {"rem0", "measured at run time"}, {"rem1", "measured at run time"}, {"rem2", "measured at run time"}, {"rem3", "measured at run time"},
	},
	attest.Azure: {
		{"measurement", "Microsoft's paravisor"}, {"host_data", "data that the host gave at launch"}, {"id_key_digest", "who signed the paravisor"},
		{"mrtd", "Microsoft's paravisor"},
	},
	attest.Sim: {{"key", "of the simulated TEE"}, {"measurement", "as the simulated TEE claims"}},
}

// Draft writes a policy file with one identity that accepts what the facts say, for a person to go over: comments say what each value is, and versions
// are the least that is accepted. modules are the accepted modules if the facts tell of none. Facts of debug mode are no basis for a policy: an error.
func Draft(identity string, f *attest.Facts, modules ...attest.Digest) ([]byte, error) {
	if err := universal(f); err != nil {
		return nil, err
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "# Drafted from evidence. Go over it: it accepts what was there, whether or not that was meant.\nversion: 1\nidentities:\n  %s:\n", quoteName(identity))
	if !f.Module.IsZero() {
		fmt.Fprintf(b, "    module:\n      - %s # that the evidence names\n", f.Module)
		fmt.Fprintf(b, "    config:\n      - %s # configuration and policy; remove this to accept any\n", f.Config)
		fmt.Fprintf(b, "    runtime:\n      - %s # the program around the module\n", f.Runtime)
	} else {
		b.WriteString("    module: # the evidence names none\n")
		for _, m := range modules {
			fmt.Fprintf(b, "      - %s\n", m)
		}
	}
	if f.Simulated() {
		b.WriteString("    simulated: allow # PROTECTS NOTHING\n")
	}
	fmt.Fprintf(b, "    any_of:\n      - %s:\n", f.Platform)
	draftPlatform(b, &f.PlatformClaims)
	if f.HardwareID != "" {
		fmt.Fprintf(b, "    # To accept this machine only:\n    # instances: [%s]\n", quote(f.HardwareID))
	}
	if _, err := Parse("draft", []byte(b.String())); err != nil {
		return nil, fmt.Errorf("no policy can be drafted from this: %w", err)
	}
	return []byte(b.String()), nil
}

func draftPlatform(b *strings.Builder, c *attest.PlatformClaims) {
	line := func(text, comment string) { fmt.Fprintf(b, "          %s # %s\n", text, comment) }
	for _, d := range drafted[c.Platform] {
		if value := c.Measurements[d[0]]; len(strings.Trim(string(value), "\x00")) > 0 {
			line(fmt.Sprintf("%s: [%s]", d[0], draftValue(c.Platform, value)), d[1])
		}
	}
	draftVersions(line, c)
	if _, graded := schema[c.Platform]["tcb"]; graded && c.TCB != attest.TCBNotApplicable {
		line(fmt.Sprintf("tcb: [%s]", c.TCB), "as it is now; Intel's status falls when vulnerabilities become known")
		if len(c.Advisories) > 0 {
			line(fmt.Sprintf("advisories: [%s]", strings.Join(printable(c.Advisories), ", ")), "ACCEPTED although they apply: read them")
		}
	}
	bound := func(condition string) bool { return condition == attest.ConditionServiceTD }
	if slices.ContainsFunc(c.Conditions, bound) {
		line(fmt.Sprintf("service_tds: [%s]", quote(hex.EncodeToString(c.Measurements["mrservicetd"]))), "BOUND TO A SERVICE TD, which may move it elsewhere: accept only one that is meant")
	}
	if allow := slices.DeleteFunc(slices.Clone(c.Conditions), bound); len(allow) > 0 {
		line(fmt.Sprintf("allow: [%s]", strings.Join(allow, ", ")), "weaker than it could be: accept only what is meant")
	}
}

func draftValue(p attest.Platform, value []byte) string {
	if p == attest.Sim {
		return attest.Digest(value).String()
	}
	return quote(hex.EncodeToString(value))
}

func draftVersions(line func(text, comment string), c *attest.PlatformClaims) {
	switch c.Platform {
	case attest.SGX:
		line(fmt.Sprintf("isv_prod_id: %d", c.Versions["isv_prod_id"]), "product, of those of one signer")
		line(fmt.Sprintf("min_isv_svn: %d", c.Versions["isv_svn"]), "least security version of the enclave")
	case attest.SEVSNP:
		draftSNP(line, c)
	case attest.Azure, attest.TPM:
		if _, ok := c.Versions["vmpl"]; ok {
			draftSNP(line, c)
		}
		if registers := pcrs(c); len(registers) > 0 {
			line("pcrs: { "+strings.Join(registers, ", ")+" }", "what has booted: keep those that you know the meaning of")
		} else {
			line("", "NO PCRs: whatever has booted is accepted. Draft from evidence with a quote of the TPM")
		}
	}
}

func draftSNP(line func(text, comment string), c *attest.PlatformClaims) {
	line(fmt.Sprintf("vmpl: %d", c.Versions["vmpl"]), "privilege level that asked for the report, 0 is the highest")
	line("min_tcb: { "+strings.Join(pairs(c, schema[attest.SEVSNP]["min_tcb"].names), ", ")+" }", "least versions of AMD's firmware")
}

func pairs(c *attest.PlatformClaims, known func(string) error) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Versions)) {
		if known(name) == nil {
			all = append(all, fmt.Sprintf("%s: %d", name, c.Versions[name]))
		}
	}
	return all
}

// pcrs are the registers of the SHA-256 bank, or where that was not quoted of the SHA-384 bank. Those that anybody can reset are left out.
func pcrs(c *attest.PlatformClaims) (all []string) {
	const debug, application = 16, 23
	for i := range 24 {
		value, ok := c.Measurements["pcr"+strconv.Itoa(i)]
		if !ok {
			value, ok = c.Measurements["pcr"+strconv.Itoa(i)+"_sha384"]
		}
		if ok && i != debug && i != application {
			all = append(all, fmt.Sprintf("%d: %s", i, quote(hex.EncodeToString(value))))
		}
	}
	return all
}
