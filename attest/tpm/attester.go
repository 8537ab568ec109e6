package tpm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// ModulePCR has the digest of the broker's module.
const ModulePCR = 14

// Options say what an attester quotes. The zero value will do.
type Options struct {
	Device       string      // path of a device, or of the socket of a TPM in software; "" is Device
	Hash         crypto.Hash // of the bank: crypto.SHA256, which is also 0, or crypto.SHA384
	PCRs         []int       // 0 to 23; none: 0 to 7 and 14
	Certificates []byte      // of the AK and its CA, see DecodeCertificates; nil: a policy names the AK
	EventLog     string      // path of the firmware's log, to be sent along; "": none
}

// DefaultPCRs are those that evidence is over unless it is told otherwise: what the PC Client profile has the firmware and the boot loader
// measure, and ModulePCR.
func DefaultPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, ModulePCR} }

// FirmwareLog is where Linux shows the event log of the firmware.
const FirmwareLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

// Attester makes evidence with the TPM of the machine. It may be used by many goroutines; the TPM serves one at a time.
type Attester struct {
	options Options
	open    opener
	public  []byte // of the AK

	mu       sync.Mutex
	measured []byte // what has been put into ModulePCR, nil if nothing
}

// NewAttester looks whether there is a TPM that can do what is wanted.
func NewAttester(ctx context.Context, o Options) (*Attester, error) {
	if o.Device == "" {
		o.Device = Device
	}
	return newAttester(ctx, o, deviceAt(o.Device))
}

func newAttester(ctx context.Context, o Options, open opener) (_ *Attester, err error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if o.PCRs = slices.Compact(slices.Sorted(slices.Values(o.PCRs))); len(o.PCRs) == 0 {
		o.PCRs = DefaultPCRs()
	}
	if o.Hash != crypto.SHA256 && o.Hash != crypto.SHA384 {
		return nil, fmt.Errorf("PCRs of a bank of %s are not quoted: choose SHA-256 or SHA-384", o.Hash)
	}
	if o.PCRs[0] < 0 || o.PCRs[len(o.PCRs)-1] >= Registers {
		return nil, fmt.Errorf("PCRs have the numbers 0 to %d", Registers-1)
	}
	a := &Attester{options: o, open: open}
	if a.public, err = use(ctx, open, a.look); err != nil {
		return nil, err
	}
	return a, a.checkCertificates()
}

// look returns the public area of the AK, and tries to read the PCRs.
func (a *Attester) look(tpm transport.TPM) ([]byte, error) {
	if _, err := a.values(tpm); err != nil {
		return nil, err
	}
	return with(tpm, attestationKey, akTemplate(), func(ak *object) ([]byte, error) { return ak.public, nil })
}

// ErrOtherKey says that Options.Certificates is not of this machine.
var ErrOtherKey = errors.New("the certificate is not of the attestation key of this TPM: enrol this machine again")

// checkCertificates refuses certificates of another AK now, and not at each client.
func (a *Attester) checkCertificates() error {
	if a.options.Certificates == nil {
		return nil
	}
	c, err := parseCertificates(a.options.Certificates)
	if err != nil {
		return err
	}
	if c.ak.Subject.CommonName != commonName(a.public) {
		return ErrOtherKey
	}
	return nil
}

// Expiry returns when the first of the certificates expires that go with the evidence, the zero time if there are none.
func (a *Attester) Expiry() time.Time {
	if a.options.Certificates == nil {
		return time.Time{}
	}
	c, err := parseCertificates(a.options.Certificates)
	if err != nil {
		return time.Time{} // cannot be: NewAttester has read them
	}
	return c.expiry()
}

// Platform returns attest.TPM.
func (a *Attester) Platform() attest.Platform { return attest.TPM }

// Key returns the digest of the AK, which a policy calls ak.
func (a *Attester) Key() [32]byte { return KeyDigest(a.public) }

// Attest has the TPM sign the PCRs and the short form of the report data. A TPM takes between ten milliseconds and a few seconds.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	log, err := a.eventLog()
	if err != nil {
		return attest.Quote{}, err
	}
	short := data.Short()
	e, err := turn(ctx, a, func(tpm transport.TPM) (*evidence, error) {
		e, err := a.quote(tpm, short[:])
		if err == nil && log != nil {
			e.Log, e.Module = log, a.measured
		}
		return e, err
	})
	if err != nil {
		return attest.Quote{}, err
	}
	encoded, err := dcbor.Encode(e)
	if err != nil {
		return attest.Quote{}, err
	}
	return attest.Quote{Platform: attest.TPM, Data: encoded, Endorsements: a.options.Certificates}, nil
}

// turn uses the device when it is this caller's turn.
func turn[T any](ctx context.Context, a *Attester, do func(transport.TPM) (T, error)) (T, error) {
	return use(ctx, a.open, func(tpm transport.TPM) (T, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return do(tpm)
	})
}

// quote makes a quote by the AK.
func (a *Attester) quote(tpm transport.TPM, extra []byte) (*evidence, error) {
	return with(tpm, attestationKey, akTemplate(), func(ak *object) (*evidence, error) {
		q, err := a.quoteBy(tpm, ak.NamedHandle, extra)
		if err != nil {
			return nil, err
		}
		return &evidence{Version: evidenceVersion, Attested: q.Attested, Signature: q.Signature, Public: ak.public, PCRs: q.PCRs}, nil
	})
}

// quoteBy makes a quote by a key and reads the PCRs that it is over. When one changes in between it is made again.
func (a *Attester) quoteBy(tpm transport.TPM, key tpm2.NamedHandle, extra []byte) (*SignedQuote, error) {
	const tries = 5
	for range tries {
		r, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: extra},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      a.selection(a.options.PCRs),
		}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("quote: %w", err)
		}
		values, err := a.values(tpm)
		if err != nil {
			return nil, err
		}
		q := &SignedQuote{Attested: r.Quoted.Bytes(), Signature: tpm2.Marshal(r.Signature), PCRs: values}
		quoted, err := parseAttested(q.Attested)
		if err != nil {
			return nil, fmt.Errorf("quote: %w", err)
		}
		if bytes.Equal(quoted.pcrDigest, pcrDigest(crypto.SHA256, values)) { // the hash function of the key
			return q, nil
		}
	}
	return nil, errors.New("PCRs changed between quote and reading, again and again")
}

func (a *Attester) selection(pcrs []int) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, Registers/8)
	for _, i := range pcrs {
		bitmap[i/8] |= 1 << (i % 8)
	}
	alg := tpm2.TPMIAlgHash(algSHA256)
	if a.options.Hash == crypto.SHA384 {
		alg = algSHA384
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: bitmap}}}
}

// values reads the PCRs that are quoted.
func (a *Attester) values(tpm transport.TPM) ([][]byte, error) { return a.read(tpm, a.options.PCRs) }

// read reads PCRs, of which a TPM gives eight at a time.
func (a *Attester) read(tpm transport.TPM, pcrs []int) ([][]byte, error) {
	var values [][]byte
	for some := range slices.Chunk(pcrs, 8) {
		r, err := tpm2.PCRRead{PCRSelectionIn: a.selection(some)}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(r.PCRValues.Digests) != len(some) {
			return nil, fmt.Errorf("it has %d of the PCRs %v in its bank of %s: another bank is in use, see the setup of the machine", len(r.PCRValues.Digests), some, a.options.Hash)
		}
		for _, d := range r.PCRValues.Digests {
			values = append(values, d.Buffer)
		}
	}
	return values, nil
}

// Registers returns the values that a quote would be over now, by the numbers of the PCRs.
func (a *Attester) Registers(ctx context.Context) (map[int][]byte, error) {
	values, err := turn(ctx, a, a.values)
	if err != nil {
		return nil, err
	}
	registers := map[int][]byte{}
	for i, pcr := range a.options.PCRs {
		registers[pcr] = values[i]
	}
	return registers, nil
}

// Measure puts the digest of the module into ModulePCR, in all banks of the TPM. A PCR keeps its value until the machine starts again: if
// it holds this module and nothing else already but what the event log tells of, since the broker was started before, it stays as it is.
func (a *Attester) Measure(ctx context.Context, module attest.Digest) error {
	clean, err := a.booted()
	if err != nil {
		return err
	}
	before, err := turn(ctx, a, func(tpm transport.TPM) ([]byte, error) { return a.measure(tpm, clean, module) })
	if err != nil {
		return fmt.Errorf("put the digest of the module into PCR %d: %w", ModulePCR, err)
	}
	after := a.withModule(before, module)
	if bytes.Equal(before, clean) || bytes.Equal(before, a.withModule(clean, module)) {
		return nil
	}
	return attest.NotAlone(fmt.Sprintf("PCR %d", ModulePCR), before, after)
}

// measure extends ModulePCR unless that is done, and returns what it held before.
func (a *Attester) measure(tpm transport.TPM, clean []byte, module attest.Digest) ([]byte, error) {
	values, err := a.read(tpm, []int{ModulePCR})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(values[0], a.withModule(clean, module)) {
		_, err = tpm2.PCREvent{
			PCRHandle: tpm2.AuthHandle{Handle: ModulePCR, Auth: tpm2.PasswordAuth(nil)}, EventData: tpm2.TPM2BEvent{Buffer: module[:]},
		}.Execute(tpm)
	}
	if err == nil {
		a.measured = module[:]
	}
	return values[0], err
}

// booted is what ModulePCR holds before a broker starts, as far as is known: what the event log leads to, else zeros.
func (a *Attester) booted() ([]byte, error) {
	clean := make([]byte, a.options.Hash.Size())
	data, err := a.eventLog()
	if err != nil || data == nil {
		return clean, err
	}
	log, err := ParseEventLog(data)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	replayed, err := log.Replay(a.options.Hash)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	if value, ok := replayed[ModulePCR]; ok {
		return value, nil
	}
	return clean, nil
}

func (a *Attester) withModule(before []byte, module attest.Digest) []byte {
	return extended(a.options.Hash, before, moduleEvent(a.options.Hash, module[:]))
}

// ModuleRegister returns the value of ModulePCR of a machine on which nothing but this module has been measured there: what a policy
// has under pcrs.
func ModuleRegister(hash crypto.Hash, module attest.Digest) []byte {
	return extended(hash, make([]byte, hash.Size()), moduleEvent(hash, module[:]))
}

// moduleEvent is the digest that TPM2_PCR_Event makes of data.
func moduleEvent(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// eventLog reads the firmware's log.
func (a *Attester) eventLog() ([]byte, error) {
	if a.options.EventLog == "" {
		return nil, nil
	}
	log, err := os.ReadFile(a.options.EventLog)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	if len(log) > maxEventLogSize {
		return nil, fmt.Errorf("event log %s has %d bytes, and at most %d can be sent: do without it", a.options.EventLog, len(log), maxEventLogSize)
	}
	return log, nil
}
