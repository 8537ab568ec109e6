package attest

import "fmt"

// Kind says what sort of failure an error is. Each kind is an error itself, so that
//
//	errors.Is(err, attest.ErrBinding)
//
// works on whatever this module returns. Some kinds are special cases of a wider one: errors.Is holds for
// both.
type Kind uint8

// The kinds of failure.
const (
	// ErrFormat: bytes that are not what the protocol says they must be (CMW, claims, frame, name).
	ErrFormat Kind = iota + 1
	// ErrMissing: the peer gave no evidence where evidence is required.
	ErrMissing
	// ErrBinding: the evidence is not about this connection: replayed, relayed or tampered with.
	ErrBinding
	// ErrZeroReportData: the quote signs zeros, hence nothing. A case of ErrBinding.
	ErrZeroReportData
	// ErrRole: evidence of a client offered as a server's, or the reverse. A case of ErrBinding.
	ErrRole
	// ErrSignature: the quote is not signed by a key that leads to the platform's root.
	ErrSignature
	// ErrTCB: the platform is genuine, but its security version or mode is not acceptable.
	ErrTCB
	// ErrDebug: the TEE runs in debug mode, in which its host can read it. A case of ErrTCB.
	ErrDebug
	// ErrFreshness: evidence or collateral has expired, or is from the future.
	ErrFreshness
	// ErrPolicy: genuine evidence that no identity of the policy accepts.
	ErrPolicy
	// ErrModule: another Wasm module than the policy names. A case of ErrPolicy.
	ErrModule
	// ErrConfig: another configuration than the policy names. A case of ErrPolicy.
	ErrConfig
	// ErrRuntime: another runtime than the policy names. A case of ErrPolicy.
	ErrRuntime
	// ErrPlatform: a platform, or a measurement of it, that the policy does not name. A case of ErrPolicy.
	ErrPlatform
	// ErrInstance: hardware that is not enrolled. A case of ErrPolicy.
	ErrInstance
	// ErrSimulated: a simulated TEE, and the policy does not allow one. A case of ErrPolicy.
	ErrSimulated
	// ErrECH: Encrypted Client Hello was rejected, stripped or not used.
	ErrECH
	// ErrTimeout: handshake or evidence took too long.
	ErrTimeout
	// ErrTLS: TLS itself failed: version, certificate, alert, or the peer went away.
	ErrTLS
	// ErrAttester: this side's own attester could not make evidence.
	ErrAttester
)

type kindInfo struct {
	text   string
	parent Kind // 0: none
}

var kinds = [...]kindInfo{
	ErrFormat:         {"malformed evidence", 0},
	ErrMissing:        {"no evidence", 0},
	ErrBinding:        {"evidence is not bound to this connection", 0},
	ErrZeroReportData: {"report data is all zero", ErrBinding},
	ErrRole:           {"evidence is for the other role", ErrBinding},
	ErrSignature:      {"signature of the evidence is not valid", 0},
	ErrTCB:            {"TCB status is not acceptable", 0},
	ErrDebug:          {"TEE is in debug mode", ErrTCB},
	ErrFreshness:      {"evidence is not fresh", 0},
	ErrPolicy:         {"refused by policy", 0},
	ErrModule:         {"module is not accepted", ErrPolicy},
	ErrConfig:         {"configuration is not accepted", ErrPolicy},
	ErrRuntime:        {"runtime is not accepted", ErrPolicy},
	ErrPlatform:       {"platform is not accepted", ErrPolicy},
	ErrInstance:       {"hardware is not enrolled", ErrPolicy},
	ErrSimulated:      {"simulated TEE is not allowed", ErrPolicy},
	ErrECH:            {"Encrypted Client Hello failed", 0},
	ErrTimeout:        {"took too long", 0},
	ErrTLS:            {"TLS failed", 0},
	ErrAttester:       {"own attester failed", 0},
}

// Error returns the kind in a few words.
func (k Kind) Error() string {
	if int(k) >= len(kinds) || k == 0 {
		return fmt.Sprintf("failure of unknown kind %d", uint8(k))
	}
	return kinds[k].text
}

// Is lets errors.Is find the wider kind of a special case.
func (k Kind) Is(target error) bool {
	t, ok := target.(Kind)
	if !ok || int(k) >= len(kinds) {
		return false
	}
	return k == t || (t != 0 && kinds[k].parent == t)
}

// Error is a failure with its kind and a text that a person can act on.
type Error struct {
	Kind Kind
	err  error
}

// Errorf makes an *Error of kind k. The format is as for fmt.Errorf, %w included.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, err: fmt.Errorf(format, args...)}
}

// Error returns the text given to Errorf.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives errors.Is and errors.As both the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.err} }
