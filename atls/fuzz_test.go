package atls

import (
	"bytes"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

func FuzzServerName(f *testing.F) {
	f.Add(serverName(nonce{1}, N1, "plant.example"))
	f.Add(serverName(nonce{2}, P1, "plant.example"))
	f.Add("aa.x1.plant.example")
	f.Add(".n1.plant.example")
	f.Fuzz(func(t *testing.T, name string) {
		fuzzbound.Check(t, len(name), func() {
			c, n, err := parseServerName(name, "plant.example")
			if err == nil && c != Ordinary && !equalFold(serverName(n, c, "plant.example"), name) {
				t.Errorf("%q has a second spelling", name)
			}
		})
	})
}

func equalFold(a, b string) bool { return bytes.EqualFold([]byte(a), []byte(b)) }

func FuzzTicket(f *testing.F) {
	f.Add(packTicket([]byte("evidence"), make([]byte, smallTicket)))
	f.Add(packTicket(nil, make([]byte, largeTicket)))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, ticket []byte) {
		evidence, err := unpackTicket(ticket)
		if err == nil && !bytes.Equal(packTicket(evidence, make([]byte, len(ticket))), ticket) {
			t.Error("ticket has a second form")
		}
	}))
}

func FuzzClientFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 7, 'x'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(fuzzbound.Of(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		evidence, err := readFrame(r)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if writeFrame(&again, evidence); !bytes.HasPrefix(stream, again.Bytes()) || r.Len() != len(stream)-again.Len() {
			t.Errorf("frame of %d bytes was not read exactly", len(evidence))
		}
		if len(evidence) > attest.MaxEvidenceSize {
			t.Errorf("frame of %d bytes was accepted", len(evidence))
		}
	}))
}

// FuzzServerFrame is the first application data of carrier p1, as the client reads it.
func FuzzServerFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 2, 0xa0, 0xa0, 0x20})
	f.Add([]byte{0x20, 3, 0, 0, 0})
	f.Fuzz(fuzzbound.Of(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		evidence, err := readServerFrame(r)
		switch {
		case err != nil:
		case len(evidence) == 0 || len(evidence) > attest.MaxEvidenceSize:
			t.Errorf("evidence of %d bytes was accepted", len(evidence))
		case !bytes.Equal(stream[lengthSize:lengthSize+len(evidence)], evidence) || r.Len() != len(stream)-lengthSize-len(evidence):
			t.Error("frame was not read exactly")
		}
	}))
}

func FuzzECHConfigList(f *testing.F) {
	key, err := NewECHKey("public.example", 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ECHConfigList(key))
	f.Add(ECHConfigList(key, key))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, list []byte) {
		if name, err := CheckECHConfigList(list); err == nil && name == "" {
			t.Error("accepted a list without a public name")
		}
	}))
}

// FuzzReattestMessages reads arbitrary bytes as each message of re-attestation.
func FuzzReattestMessages(f *testing.F) {
	at := moment{seq: 1, nonceS: make([]byte, attest.NonceSize)}
	for _, make := range []func() ([]byte, error){
		func() ([]byte, error) { return encodeRequest(&at) },
		func() ([]byte, error) { return encodeChallenge(&at, []byte("evidence")) },
		func() ([]byte, error) { return encodeAnswer(1, nil) },
	} {
		seed, err := make()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		read := moment{seq: 1}
		var again []byte
		if evidence, err := decodeChallenge(data, &read); err == nil {
			again, _ = encodeChallenge(&read, evidence)
		} else if evidence, err := decodeAnswer(data, 1); err == nil {
			again, _ = encodeAnswer(1, evidence)
		} else if decodeRequest(data, &read) == nil {
			again, _ = encodeRequest(&read)
		} else {
			return
		}
		if !bytes.Equal(again, data) {
			t.Error("message has a second form")
		}
	}))
}
