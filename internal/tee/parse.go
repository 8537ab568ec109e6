package tee

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Syntax says what Parse reads, for a help text.
const Syntax = "auto, sgx, tdx, sevsnp, tpm, nitro, cca or azure, with KEY=VALUE,... after a colon as in a broker's configuration " +
	"(tpm:device=PATH,certificate=FILE,bank=sha384,pcrs=0+4+14,event_log=FILE; sevsnp:certificate=FILE; cca:platform_key=FILE); sim:KEYFILE, or KEYFILE alone, is a simulated one (sim: makes the file if it is not there)"

// Banks of PCRs.
const (
	bankSHA256 = "sha256"
	bankSHA384 = "sha384"
)

// Parse reads what a person writes after --attest, see Syntax. The key of a simulated TEE is read from its file. The digest of the program is for the caller to add.
func Parse(text string) (Options, error) {
	name, rest, more := strings.Cut(text, ":")
	if name == string(attest.Sim) && more {
		return parseSim(rest)
	}
	if !known(name) {
		return parseSim(text)
	}
	o := Options{Kind: name}
	if !more {
		return o, nil
	}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return Options{}, fmt.Errorf("%q after %s: is not KEY=VALUE", part, name)
		}
		if err := o.set(key, value); err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

func known(name string) bool {
	if name == Auto {
		return true
	}
	p, err := attest.ParsePlatform(name)
	return err == nil && !p.Simulated()
}

func parseSim(path string) (Options, error) {
	o := Options{Kind: string(attest.Sim)}
	pem, err := os.ReadFile(path)
	if err != nil {
		return o, fmt.Errorf("neither a TEE that this program knows nor the key file of a simulated one (sim:FILE makes one): %w", err)
	}
	if o.Sim.Key, err = sim.ParseKey(pem); err != nil {
		return o, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// set sets one value. The keys are those of a broker's configuration; auto has none.
func (o *Options) set(key, value string) error {
	settings := map[string]map[string]func(string) error{
		string(attest.TPM): {
			"device": text(&o.TPM.Device), "certificate": text(&o.TPM.Certificate), "event_log": text(&o.TPM.EventLog),
			"bank": o.setBank, "pcrs": o.setPCRs,
		},
		string(attest.Azure):  {"device": text(&o.TPM.Device)},
		string(attest.SEVSNP): {"certificate": text(&o.SEVSNPCertificate)},
		string(attest.CCA):    {"platform_key": text(&o.CCAPlatformKey)},
	}
	set, ok := settings[o.Kind][key]
	if !ok {
		return fmt.Errorf("%s has no setting %q", o.Kind, key)
	}
	return set(value)
}

func text(to *string) func(string) error {
	return func(value string) error { *to = value; return nil }
}

func (o *Options) setBank(value string) error {
	if value != bankSHA256 && value != bankSHA384 {
		return fmt.Errorf("bank=%s: it is %s or %s", value, bankSHA256, bankSHA384)
	}
	o.TPM.Bank = value
	return nil
}

var errPCRs = errors.New("numbers of PCRs are 0 to 23, with + between them")

func (o *Options) setPCRs(value string) error {
	o.TPM.PCRs = nil
	for part := range strings.SplitSeq(value, "+") {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || n >= tpm.Registers {
			return fmt.Errorf("pcrs=%s: %w", value, errPCRs)
		}
		o.TPM.PCRs = append(o.TPM.PCRs, uint32(n))
	}
	return nil
}
