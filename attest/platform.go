package attest

import (
	"fmt"
	"time"
)

// Platform names a kind of TEE, as in the policy file.
type Platform string

// The platforms that evidence can name. Which of them a process can verify is a matter of its [Registry].
const (
	SGX    Platform = "sgx"    // Intel SGX
	TDX    Platform = "tdx"    // Intel TDX
	SEVSNP Platform = "sevsnp" // AMD SEV-SNP
	TPM    Platform = "tpm"    // a machine measured by a TPM 2.0
	Nitro  Platform = "nitro"  // AWS Nitro Enclaves
	CCA    Platform = "cca"    // Arm CCA
	Azure  Platform = "azure"  // a confidential VM of Azure: SEV-SNP or TDX behind a paravisor with a vTPM
	Sim    Platform = "sim"    // simulated: protects nothing
)

type platformInfo struct {
	mediaType string
	size      int // of the report data that the platform signs: 64, or 32 where RD32 is used
}

var platforms = map[Platform]platformInfo{
	SGX:    {"application/vnd.vouchmq.sgx", ReportDataSize},
	TDX:    {"application/vnd.vouchmq.tdx", ReportDataSize},
	SEVSNP: {"application/vnd.vouchmq.sevsnp", ReportDataSize},
	TPM:    {"application/vnd.vouchmq.tpm", shortReportDataSize},
	Nitro:  {"application/vnd.vouchmq.nitro", ReportDataSize},
	CCA:    {"application/vnd.vouchmq.cca", ReportDataSize},
	Azure:  {"application/vnd.vouchmq.azure+cbor", shortReportDataSize},
	Sim:    {"application/vnd.vouchmq.sim+cbor", ReportDataSize},
}

// ParsePlatform returns the platform of that name.
func ParsePlatform(name string) (Platform, error) {
	if _, ok := platforms[Platform(name)]; !ok {
		return "", fmt.Errorf("unknown platform %q; known are sgx, tdx, sevsnp, tpm, nitro, cca, azure, sim", abbreviate(name))
	}
	return Platform(name), nil
}

// MediaType returns the media type under which quotes of the platform travel, "" for an unknown one.
func (p Platform) MediaType() string { return platforms[p].mediaType }

// Simulated reports whether the platform protects nothing.
func (p Platform) Simulated() bool { return p == Sim }

// Patience returns how long evidence of the platform may take: a TPM is a slow processor, and serves one at a time.
func (p Platform) Patience() time.Duration {
	if p == TPM {
		return 30 * time.Second
	}
	return 5 * time.Second
}

func platformOfMediaType(mediaType string) (Platform, bool) {
	for p, info := range platforms {
		if info.mediaType == mediaType {
			return p, true
		}
	}
	return "", false
}
