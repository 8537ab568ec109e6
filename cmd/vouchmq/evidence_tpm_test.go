package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// A TPM's quote as one object of our own, and in the files in which other tools have it.
func TestVerifyTPM(t *testing.T) {
	dir, m, data := t.TempDir(), tpmtest.New(t), attest.ReportData{1, 2}
	a, err := tpm.NewAttester(t.Context(), tpm.Options{Device: m.Socket})
	if err != nil {
		t.Fatal(err)
	}
	q, err := a.Attest(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Version   uint64   `cbor:"v"`
		Message   []byte   `cbor:"attest"`
		Signature []byte   `cbor:"sig"`
		Key       []byte   `cbor:"ak"`
		PCRs      [][]byte `cbor:"pcrs"`
	}
	if err := dcbor.Decode(q.Data, &parts); err != nil {
		t.Fatal(err)
	}
	whole, message := write(t, dir, "whole.cbor", q.Data), write(t, dir, "quote.msg", parts.Message)
	signature, key := write(t, dir, "quote.sig", parts.Signature), write(t, dir, "ak.pub", parts.Key)
	pcrs := write(t, dir, "pcrs.bin", bytes.Join(parts.PCRs, nil))

	expect(t, exitOK, []string{"verify", whole}, "VouchMQ's evidence of a TPM", "SIGNED by the key that came with it", "PCR14", "attestation key")
	all := []string{"verify", message, "--signature", signature, "--pcrs", pcrs, "--ak", key}
	expect(t, exitOK, all, "TPM 2.0 quote (TPMS_ATTEST)", "SIGNED by the key that came with it", "PCR14", "resets, restarts")
	expect(t, exitOK, append(all, "--json"), `"genuine": true`, `"platform": "tpm"`)
	short := data.Short()
	expect(t, exitOK, append(all, "--report-data", fmt.Sprintf("%x", short)), "the report data is what was expected")
	expect(t, exitAttestation, append(all, "--report-data", "01"), "NOT BOUND")

	draft := expect(t, exitOK, []string{"policy", "from-evidence", message, "--signature", signature, "--pcrs", pcrs, "--ak", key, "--identity", "machine", "--module", attest.Sum(nil).String()}, "ak:", "pcrs:")
	file := write(t, dir, "policy.yaml", []byte(draft))
	expect(t, exitOK, append(all, "--policy", file), "ACCEPTED as machine, as far as platform and hardware go")
	expect(t, exitOK, []string{"policy", "test", file, whole}, "ACCEPTED as machine")
	expectTier(t, file, all[1:])

	for i, missing := range []string{"--signature", "--pcrs", "--ak"} {
		some := append(append([]string{}, all[:2+2*i]...), all[4+2*i:]...)
		expect(t, exitAttestation, some, "NOT VERIFIED", "name "+map[bool]string{true: "them", false: "it"}[missing == "--pcrs"]+" with "+missing, "PCRs of the bank")
		expect(t, exitAttestation, append(some, "--policy", file), "NOT VERIFIED")
	}
	parts.Signature[len(parts.Signature)-1] ^= 1
	write(t, dir, "quote.sig", parts.Signature)
	expect(t, exitAttestation, all, "REFUSED: TPM evidence: signature of the quote")
	expect(t, exitGeneral, []string{"verify", message, "--ak", filepath.Join(dir, "none")}, "--ak")
}

// TestToolsOfOthers: the files of tpm2-tools, in each of their formats.
func TestToolsOfOthers(t *testing.T) {
	if _, err := exec.LookPath("tpm2_quote"); err != nil {
		t.Skip("tpm2-tools are not installed")
	}
	dir, m := t.TempDir(), tpmtest.New(t)
	// The tools look for the channel of control beside the socket, under a name of their own.
	if err := os.Symlink(filepath.Join(filepath.Dir(m.Socket), "ctrl"), m.Socket+".ctrl"); err != nil {
		t.Fatal(err)
	}
	run := func(command string) {
		t.Helper()
		for _, line := range []string{command, "tpm2_flushcontext -t"} { // a TPM has three places for keys
			args := strings.Fields(line)
			c := exec.Command(args[0], args[1:]...)
			c.Dir, c.Env = dir, append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+m.Socket)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		}
	}
	run("tpm2_createek -c ek.ctx -G rsa -u ek.pub")
	for scheme, kind := range map[string]string{"ecdsa": "ecc", "rsassa": "rsa", "rsapss": "rsa"} {
		run("tpm2_createak -C ek.ctx -c ak.ctx -u ak.pub -g sha256 -G " + kind + " -s " + scheme)
		for _, format := range []string{"", "-f plain", "-F values"} {
			run("tpm2_quote -c ak.ctx -l sha256:0,1,2,3,4,5,6,7,8,9,14 -q 0102 -g sha256 -m quote.msg -s quote.sig -o pcrs.bin --scheme " + scheme + " " + format)
			at := func(name string) string { return filepath.Join(dir, name) }
			expect(t, exitOK, []string{"verify", at("quote.msg"), "--signature", at("quote.sig"), "--pcrs", at("pcrs.bin"), "--ak", at("ak.pub"), "--report-data", "0102"},
				"SIGNED by the key that came with it", "PCR14")
		}
	}
}

// Published evidence of TPMs and of confidential VMs of Azure, in the files in which it comes.
func TestPublishedParts(t *testing.T) {
	const azure, june, intel = "azure-vtpm/trustee/", "2026-06-01T12:00:00Z", "2025-06-25T12:00:00Z"
	for _, c := range []struct {
		args   string // files with their folder
		time   string
		status int
		want   []string
	}{
		{azure + "snp/hcl-report.bin", june, exitAttestation, []string{"NOT VERIFIED", "name it with --certificate", "secure-boot"}},
		{azure + "snp/hcl-report.bin --certificate " + azure + "snp/vcek.pem", june, exitOK, []string{"GENUINE as far as it goes", "NO QUOTE", "provisional_firmware"}},
		{azure + "snp/hcl-report.bin --certificate sev-snp/trustee/test-vcek.der", june, exitAttestation, []string{"REFUSED"}},
		{azure + "snp/hcl-report.bin --certificate " + azure + "snp/vcek.pem --quote " + azure + "snp/tpm-quote-v1.json", june, exitOK, []string{"GENUINE;", "PCR14"}},
		{azure + "snp/hcl-report.bin --certificate " + azure + "snp/vcek.pem --quote " + azure + "tdx/tpm-quote-v1.json", june, exitAttestation, []string{"REFUSED: TPM evidence: signature"}},
		{azure + "snp/hcl-report.bin --certificate " + azure + "snp/vcek.pem --quote " + azure + "snp/tpm-quote.msg --signature " + azure + "snp/tpm-quote.sig", june, exitAttestation, []string{"NOT VERIFIED: the values of the PCRs are missing"}},
		{azure + "snp/evidence-v1.json", june, exitOK, []string{"GENUINE;", "smt", "vmUniqueId"}},
		{azure + "snp/evidence-v2.json", june, exitOK, []string{"GENUINE;", "user-data"}},
		{azure + "snp/tpm-quote-v1.json", june, exitAttestation, []string{"NOT VERIFIED: the key that has signed is missing", "--quote"}},
		{azure + "snp/tpm-quote.msg", june, exitAttestation, []string{"NOT VERIFIED: the signature of the quote is missing"}},
		{azure + "tdx/hcl-report.bin", june, exitAttestation, []string{"NOT VERIFIED: the TD quote is missing", "--td-quote"}},
		{azure + "tdx/hcl-report.bin --td-quote " + azure + "tdx/td-quote.bin", june, exitAttestation, []string{"NOT VERIFIED: the TD quote is signed", "vouchmq collateral fetch"}},
		{azure + "tdx/evidence-v1.json", june, exitAttestation, []string{"NOT VERIFIED: the TD quote is signed"}},
		{azure + "tdx/evidence-v1.json --collateral tdx/dcap-qvl/tdx_quote_collateral.json", intel, exitAttestation, []string{"REFUSED: TCB info is for FMSPC B0C06F000000"}},
		{azure + "tdx/hcl-report.bin --td-quote tdx/dcap-qvl/tdx_quote --collateral tdx/dcap-qvl/tdx_quote_collateral.json", intel, exitAttestation, []string{"REFUSED: Azure evidence: the hardware vouches for another runtime data"}},
		{"tpm/trustee/tpm_evidence.json", june, exitOK, []string{"a key alone", "NOT KNOWN"}},
	} {
		var args []string
		for _, arg := range strings.Fields(c.args) {
			if !strings.HasPrefix(arg, "--") {
				arg = samples.Path(t, arg)
			}
			args = append(args, arg)
		}
		out := expect(t, c.status, append([]string{"verify", "--time", c.time}, args...), c.want...)
		if c.status != exitOK || strings.Contains(out, "a key alone") {
			continue
		}
		draft := expect(t, exitOK, append([]string{"policy", "from-evidence", "--identity", "vm", "--time", c.time}, args...), "measurement", "min_tcb")
		file := write(t, t.TempDir(), "policy.yaml", []byte(draft))
		expect(t, exitOK, append([]string{"policy", "test", file, "--time", c.time}, args...), "ACCEPTED as vm")
		if whole := strings.Contains(out, "PCR14"); whole == strings.Contains(draft, "NO PCRs") {
			t.Errorf("%s: drafted as\n%s", c.args, draft)
		}
	}
	expect(t, exitGeneral, []string{"policy", "from-evidence", "--identity", "machine", samples.Path(t, "tpm/trustee/tpm_evidence.json")}, `"ak" or "ak_ca" is missing`)
}
