package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// event is one of a log that a test makes. Its digests are of its data.
type event struct {
	pcr, kind uint32
	data      string
}

func le32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
func le16(n int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(n)) }

// header is the first event, which announces SHA-1, SHA-256 and SHA-384.
func header() []byte {
	spec := bytes.Join([][]byte{[]byte(specID), make([]byte, 8), le32(3), le16(4), le16(20), le16(algSHA256), le16(32), le16(algSHA384), le16(48), {0}}, nil)
	return bytes.Join([][]byte{le32(0), le32(eventNoAction), make([]byte, 20), le32(len(spec)), spec}, nil)
}

func (e event) encode() []byte {
	data := []byte(e.data)
	return bytes.Join([][]byte{
		le32(int(e.pcr)), le32(int(e.kind)), le32(3), le16(4), make([]byte, 20),
		le16(algSHA256), moduleEvent(crypto.SHA256, data), le16(algSHA384), moduleEvent(crypto.SHA384, data), le32(len(data)), data,
	}, nil)
}

func logOf(events ...event) []byte {
	log := header()
	for _, e := range events {
		log = append(log, e.encode()...)
	}
	return log
}

func TestReplay(t *testing.T) {
	data := logOf(event{0, eventNoAction, startupLocality + "\x03"}, event{0, 1, "firmware"}, event{4, 1, "loader"}, event{4, 1, "kernel"}, event{17, 1, "launch"})
	log, err := ParseEventLog(data)
	must(t, err)
	if len(log.Events) != 5 || string(log.Events[2].Data) != "loader" {
		t.Fatalf("%+v", log.Events)
	}
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		pcrs, err := log.Replay(hash)
		must(t, err)
		start := make([]byte, hash.Size())
		start[len(start)-1] = 3
		want := map[int][]byte{
			0:  extended(hash, start, moduleEvent(hash, []byte("firmware"))),
			4:  extended(hash, extended(hash, make([]byte, hash.Size()), moduleEvent(hash, []byte("loader"))), moduleEvent(hash, []byte("kernel"))),
			17: extended(hash, bytes.Repeat([]byte{0xff}, hash.Size()), moduleEvent(hash, []byte("launch"))),
		}
		for i, v := range want {
			if !bytes.Equal(pcrs[i], v) {
				t.Errorf("PCR %d is %x, want %x", i, pcrs[i], v)
			}
		}
		if len(pcrs) != len(want) {
			t.Errorf("%d PCRs", len(pcrs))
		}
	}
	if _, err := log.Replay(crypto.SHA512); err == nil {
		t.Error("replayed what has no digests")
	}
}

func TestMalformedLogs(t *testing.T) {
	whole := logOf(event{1, 1, "x"})
	if _, err := ParseEventLog(whole); err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) {
		if i == len(header()) {
			continue // a log without events
		}
		if _, err := ParseEventLog(whole[:i]); err == nil {
			t.Errorf("accepted the first %d bytes", i)
		}
	}
	at := len(header())
	for name, test := range map[string]struct {
		offset int
		value  byte
		want   string
	}{
		"old format":             {32 + 13, '2', "crypto-agile"},
		"digests of none":        {32 + 16 + 8, 0, "0 hash functions"},
		"size of a digest":       {32 + 16 + 12 + 6, 31, "31 bytes"},
		"PCR":                    {at, 24, "about PCR 24"},
		"number of digests":      {at + 8, 2, "2 digests"},
		"digest of another hash": {at + 12, 5, "not announced"},
		"digest twice":           {at + 12, algSHA256, "not announced or is there already"},
	} {
		bad := bytes.Clone(whole)
		bad[test.offset] = test.value
		if name == "digest twice" { // both are of 32 bytes
			bad = append(bytes.Clone(whole[:at+12]), bytes.Join([][]byte{
				le16(algSHA256), make([]byte, 32), le16(algSHA256), make([]byte, 32), le16(algSHA384), make([]byte, 48), le32(0)}, nil)...)
		}
		if _, err := ParseEventLog(bad); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The log must lead to what was signed, and the module, which comes after it, too.
func TestEvidenceWithLog(t *testing.T) {
	events := []event{{0, 1, "firmware"}, {14, 13, "shim"}}
	f := good()
	f.log, f.module = logOf(events...), bytes.Repeat([]byte{9}, 48)
	f.pcrs[0] = extended(crypto.SHA256, make([]byte, 32), moduleEvent(crypto.SHA256, []byte("firmware")))
	shim := extended(crypto.SHA256, make([]byte, 32), moduleEvent(crypto.SHA256, []byte("shim")))
	f.pcrs[2] = extended(crypto.SHA256, shim, moduleEvent(crypto.SHA256, f.module))
	if _, err := verifyQuote(f.make(t), now); err != nil {
		t.Fatal(err)
	}
	f.module = nil
	if _, err := verifyQuote(f.make(t), now); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("without the module: %v", err)
	}
	f.module = make([]byte, 48)
	if _, err := verifyQuote(f.make(t), now); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("with another module: %v", err)
	}
	f.module, f.log = bytes.Repeat([]byte{9}, 48), logOf(events[1])
	if _, err := verifyQuote(f.make(t), now); err != nil {
		t.Errorf("a PCR that the log does not cover: %v", err)
	}
	f.log = logOf(event{0, 1, "other firmware"}, events[1])
	if _, err := verifyQuote(f.make(t), now); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("another event: %v", err)
	}
}

// A log of a confidential machine of a cloud, whose registers 1 and 2 are RTMR0 and RTMR1 of TDX.
func TestSampleLog(t *testing.T) {
	data := samples.Read(t, "tdx/trustee/CCEL_data_gcp")
	log, err := ParseEventLog(data[:20349]) // a buffer follows
	must(t, err)
	pcrs, err := log.Replay(crypto.SHA384)
	must(t, err)
	for i, want := range map[int]string{
		1: "3300980705adf09d28b707b79699d9874892164280832be2c386a715b6e204e0897fb564a064f810659207ba862b304f",
		2: "204d49f78d29918fe7b2f694e76653861a0c2a018987d2c3a54266eff737232524cf0af68c4d180e2f8c2c0937f21967",
	} {
		if hex.EncodeToString(pcrs[i]) != want {
			t.Errorf("register %d is %x, want %s", i, pcrs[i], want)
		}
	}
	if len(log.Events) != 21 {
		t.Errorf("%d events", len(log.Events))
	}
}
