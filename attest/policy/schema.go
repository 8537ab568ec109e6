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

// keySpec describes one key of a platform's entry under any_of: how its values look, and when they hold.
type keySpec struct {
	form  form
	value func(string) error // checks the syntax of one value
	names func(string) error // form map: checks one name
	// holds says whether verified claims satisfy one value. name is the key, or the name within a map.
	holds func(name, value string, c *attest.PlatformClaims) bool
}

type form uint8

const (
	formList   form = iota // any value will do
	formScalar             // one value
	formMap                // name=value; all must hold
	formStatus             // tcb, advisories, allow and service_tds: not judged one by one, see tcbReason and conditionReason
)

// The schema of each platform, whether or not this build has a driver for it: a file is read the same way
// everywhere, so that its digest is the same everywhere.
var schema = map[attest.Platform]map[string]keySpec{
	attest.SGX: {
		"mrsigner":    measurement(32),
		"mrenclave":   measurement(32),
		"isv_prod_id": exactly,
		"min_isv_svn": atLeast("isv_svn"),
		"tcb":         tcbWords,
		"advisories":  advisoryWords,
	},
	attest.TDX:    tdxKeys,
	attest.SEVSNP: sevsnpKeys,
	attest.TPM: {
		"ak":    measurement(32),
		"ak_ca": measurement(48),
		"pcrs":  {form: formMap, value: checkHex(32, 48), names: checkRegister(23), holds: bankEquals},
	},
	attest.Nitro: {
		"pcr0": measurement(48),
		"pcr1": measurement(48),
		"pcr2": measurement(48),
		"pcr3": measurement(48),
		"pcr4": measurement(48),
		"pcr8": measurement(48),
		"pcrs": {form: formMap, value: checkHex(48), names: checkRegister(31), holds: registerEquals}, // 16 to 31 once they are locked
	},
	attest.CCA: {
		"cpak":              measurement(48),
		"firmware":          measurement(48),
		"rim":               measurement(32, 48, 64),
		"rem0":              measurement(32, 48, 64),
		"rem1":              measurement(32, 48, 64),
		"rem2":              measurement(32, 48, 64),
		"rem3":              measurement(32, 48, 64),
		"implementation_id": measurement(32),
	},
	attest.Azure: azureKeys(),
	attest.Sim: {
		"key":         {form: formList, value: checkDigest, holds: digestEquals},
		"measurement": {form: formList, value: checkDigest, holds: digestEquals},
	},
}

// required are keys of which an entry must have one: what tells the program, or who has signed it, from what anybody else runs on hardware that is as
// genuine; on Azure that is the paravisor, since any other guest may say of PCRs what it likes. Evidence of CCA and of TPMs leads to no root of a vendor,
// so that an entry must say whose key it is.
var required = map[attest.Platform][]string{
	attest.SGX:    {"mrenclave", "mrsigner"},
	attest.TDX:    {"mrtd"},
	attest.SEVSNP: {"measurement", "id_key_digest"},
	attest.TPM:    {"ak", "ak_ca"},
	attest.Nitro:  {"pcr0", "pcr2", "pcr8"},
	attest.CCA:    {"cpak"},
	attest.Azure:  {"measurement", "id_key_digest", "mrtd"},
}

var tdxKeys = map[string]keySpec{
	"mrtd":          measurement(48),
	"mrconfigid":    measurement(48),
	"mrowner":       measurement(48),
	"mrownerconfig": measurement(48),
	"rtmr0":         measurement(48),
	"rtmr1":         measurement(48),
	"rtmr2":         measurement(48),
	"rtmr3":         measurement(48),
	"service_tds":   {form: formStatus, value: checkHex(48)},
	"tcb":           tcbWords,
	"advisories":    advisoryWords,
}

var sevsnpKeys = map[string]keySpec{
	"measurement":   measurement(48),
	"host_data":     measurement(32),
	"id_key_digest": measurement(48),
	"vmpl":          exactly,
	"allow":         {form: formStatus, value: oneOf("smt", "migration_agent", "provisional_firmware")},
	"min_tcb":       {form: formMap, value: checkNumber, names: oneOf("bootloader", "tee", "snp", "microcode", "fmc"), holds: versionAtLeast},
}

// azureKeys are those of what may be behind the paravisor, and the PCRs of its vTPM.
func azureKeys() map[string]keySpec {
	keys := map[string]keySpec{"pcrs": {form: formMap, value: checkHex(32), names: checkRegister(23), holds: registerEquals}}
	maps.Copy(keys, tdxKeys)
	maps.Copy(keys, sevsnpKeys)
	return keys
}

var (
	exactly       = keySpec{form: formScalar, value: checkNumber, holds: versionEquals}
	tcbWords      = keySpec{form: formStatus, value: checkTCB}
	advisoryWords = keySpec{form: formStatus, value: checkAdvisory}
)

// measurement is a list of hexadecimal values of one of the given sizes in bytes.
func measurement(sizes ...int) keySpec {
	return keySpec{form: formList, value: checkHex(sizes...), holds: hexEquals}
}

func atLeast(version string) keySpec {
	return keySpec{form: formScalar, value: checkNumber, holds: func(_, value string, c *attest.PlatformClaims) bool {
		return versionAtLeast(version, value, c)
	}}
}

// check checks the platform, its keys, and that none is missing.
func (r *Requirement) check() error {
	if err := r.checkKeys(); err != nil {
		return err
	}
	keys := required[r.Platform]
	named := func(key string) bool { return len(r.Want[key]) > 0 }
	if len(keys) > 0 && !slices.ContainsFunc(keys, named) {
		return fmt.Errorf("%s: \"%s\" is missing: without it evidence that anybody makes would do", r.Platform, strings.Join(keys, `" or "`))
	}
	return nil
}

// checkKeys checks the platform, and the keys that there are.
func (r *Requirement) checkKeys() error {
	keys, ok := schema[r.Platform]
	if !ok {
		return fmt.Errorf("any_of: unknown platform %q; known are %s", shorten(string(r.Platform)), platformNames())
	}
	for _, key := range slices.Sorted(maps.Keys(r.Want)) {
		spec, ok := keys[key]
		if !ok {
			return fmt.Errorf("%s: unknown key %q; known are %s", r.Platform, shorten(key), strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		}
		if err := spec.check(r.Want[key]); err != nil {
			return fmt.Errorf("%s: %s: %w", r.Platform, key, err)
		}
	}
	return nil
}

func (s *keySpec) check(values []string) error {
	if len(values) == 0 || len(values) > maxList {
		return fmt.Errorf("needs 1 to %d values", maxList)
	}
	if s.form == formScalar && len(values) != 1 {
		return fmt.Errorf("takes one value, not %d", len(values))
	}
	seen := map[string]bool{}
	for _, v := range values {
		if s.form == formMap {
			name, value, ok := strings.Cut(v, "=")
			if !ok || seen[name] {
				return fmt.Errorf("%q is not one name and its value", shorten(v))
			}
			if err := s.names(name); err != nil {
				return err
			}
			seen[name], v = true, value
		}
		if err := s.value(v); err != nil {
			return err
		}
	}
	return nil
}

func (r Requirement) normal() Requirement {
	want := make(map[string][]string, len(r.Want))
	for key, values := range r.Want {
		want[key] = sortedTexts(values)
	}
	return Requirement{Platform: r.Platform, Want: want}
}

func compareRequirements(a, b Requirement) int { return strings.Compare(a.String(), b.String()) }

// String returns the requirement in one line, keys and values sorted.
func (r Requirement) String() string {
	var b strings.Builder
	b.WriteString(string(r.Platform))
	for _, key := range slices.Sorted(maps.Keys(r.Want)) {
		join := " or "
		if schema[r.Platform][key].form == formMap {
			join = " and "
		}
		fmt.Fprintf(&b, " %s %s", key, strings.Join(r.Want[key], join))
	}
	return b.String()
}

func platformNames() string {
	var names []string
	for p := range schema {
		names = append(names, string(p))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func checkHex(sizes ...int) func(string) error {
	return func(v string) error {
		b, err := hex.DecodeString(v)
		if err != nil || strings.ToLower(v) != v || !slices.Contains(sizes, len(b)) {
			return fmt.Errorf("%q is not %s bytes in lower-case hexadecimal digits", shorten(v), orList(sizes))
		}
		return nil
	}
}

func orList(sizes []int) string {
	var parts []string
	for _, n := range sizes {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, " or ")
}

func checkDigest(v string) error {
	_, err := attest.ParseDigest(v)
	return err
}

// checkNumber accepts a decimal number in its one usual form, so that the canonical form is unique.
func checkNumber(v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != v {
		return fmt.Errorf("%q is not a decimal number from 0 to 4294967295", shorten(v))
	}
	return nil
}

func checkRegister(last uint64) func(string) error {
	return func(name string) error {
		if n, err := strconv.ParseUint(name, 10, 8); err != nil || n > last || strconv.FormatUint(n, 10) != name {
			return fmt.Errorf("%q is not the number of a PCR, 0 to %d", shorten(name), last)
		}
		return nil
	}
}

func oneOf(names ...string) func(string) error {
	return func(name string) error {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown name %q; known are %s", shorten(name), strings.Join(names, ", "))
		}
		return nil
	}
}

// refusedTCB are the statuses that no file can allow.
var refusedTCB = []attest.TCBStatus{attest.TCBRevoked, attest.TCBNotApplicable, attest.TCBSimulated}

func checkTCB(v string) error {
	s := attest.TCBStatus(v)
	if !s.Known() || slices.Contains(refusedTCB, s) {
		return fmt.Errorf("%q is not a TCB status that can be allowed", shorten(v))
	}
	return nil
}

func checkAdvisory(v string) error {
	if !validText(v) || strings.ContainsAny(v, " =") {
		return fmt.Errorf("%q is not the name of an advisory", shorten(v))
	}
	return nil
}

func hexEquals(name, value string, c *attest.PlatformClaims) bool {
	m, ok := c.Measurements[name]
	return ok && hex.EncodeToString(m) == value
}

func registerEquals(name, value string, c *attest.PlatformClaims) bool {
	return hexEquals("pcr"+name, value, c)
}

// bankEquals takes the bank from the size of the value: SHA-256, or SHA-384.
func bankEquals(name, value string, c *attest.PlatformClaims) bool {
	if len(value) == 2*48 {
		name += "_sha384"
	}
	return registerEquals(name, value, c)
}

func digestEquals(name, value string, c *attest.PlatformClaims) bool {
	d, err := attest.ParseDigest(value)
	m, ok := c.Measurements[name]
	return err == nil && ok && slices.Equal(m, d[:])
}

func versionEquals(name, value string, c *attest.PlatformClaims) bool {
	v, ok := c.Versions[name]
	return ok && strconv.FormatUint(v, 10) == value
}

func versionAtLeast(name, value string, c *attest.PlatformClaims) bool {
	least, err := strconv.ParseUint(value, 10, 64)
	v, ok := c.Versions[name]
	return err == nil && ok && v >= least
}
