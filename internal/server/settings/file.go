package settings

import (
	"time"

	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/guard"
	"github.com/vouchmq/vouchmq/internal/metrics"
)

// File is vouchmq.yaml. Paths in it are relative to its folder.
type File struct {
	Service    string        `yaml:"service" required:"true" doc:"name of the service, which certificate and clients know the broker by"`
	PublicName string        `yaml:"public_name" doc:"what observers of attested connections see in place of the service"`
	State      string        `yaml:"state" doc:"folder of keys and certificates; what is missing in it is made, but for the certificate of an owner elsewhere"`
	Owner      string        `yaml:"owner" doc:"file of the owner CA's certificate (PEM): the broker asks that owner for its certificate, see vouchmq enroll; without it the state folder has an owner CA of its own, for development"`
	Policy     string        `yaml:"policy" required:"true" doc:"file that says who is who, and who may do what"`
	TEE        string        `yaml:"tee" required:"true" enum:"sim|sgx|tdx|sevsnp|cca|nitro|azure|tpm|auto" doc:"the TEE to attest with: the simulated one, which protects nothing; the enclave or confidential VM that the broker runs in; the TPM of the machine; or the one that is found, and never the simulated one"`
	TPM        TPM           `yaml:"tpm" doc:"what is attested with a TPM"`
	SEVSNP     SEVSNP        `yaml:"sevsnp" doc:"what a guest of SEV-SNP attests with"`
	CCA        CCA           `yaml:"cca" doc:"what a realm of Arm CCA attests with"`
	Sim        Sim           `yaml:"sim" doc:"how the simulated TEE behaves"`
	Engine     string        `yaml:"engine" enum:"wasm|native" doc:"how the core runs: as the attested module, or compiled in for comparison"`
	Memory     uint64        `yaml:"memory" min:"1048576" max:"4294967296" doc:"bytes of memory that the module may have"`
	Shutdown   time.Duration `yaml:"shutdown" min:"0s" max:"24h" doc:"time to say farewell to clients and to write what is left"`

	Log       Log        `yaml:"log" doc:"what is logged, and how"`
	Listeners []Listener `yaml:"listeners" required:"true" doc:"where clients connect"`
	TLS       TLS        `yaml:"tls" doc:"certificate of the operator's own for listeners of kind tls and wss that name none themselves"`
	Limits    Limits     `yaml:"limits" doc:"what clients may use"`
	MQTT      MQTT       `yaml:"mqtt" doc:"what the broker answers where the standard leaves a choice"`

	Authentication *auth.Config `yaml:"authentication" doc:"who is let in; without it clients are who their certificate or their evidence says, or nobody, and the policy decides"`
	Guard          guard.Config `yaml:"guard" doc:"what becomes of addresses whose logins fail"`

	Attestation Attestation `yaml:"attestation" doc:"when connections that attest must do so again, and what evidence is verified with"`

	Metrics metrics.Config    `yaml:"metrics" doc:"measurements for Prometheus, and health"`
	Admin   admin.Config      `yaml:"admin" doc:"administration from the same machine"`
	Sys     metrics.SysConfig `yaml:"sys" doc:"statistics as messages below $SYS"`
}

// TPM says what is attested with a TPM.
type TPM struct {
	Device      string   `yaml:"device" doc:"path of the TPM's device, or of the socket of one in software"`
	Bank        string   `yaml:"bank" enum:"sha256|sha384" doc:"bank of PCRs that is quoted"`
	PCRs        []uint32 `yaml:"pcrs" max:"23" doc:"numbers of the PCRs that are quoted; none given are 0 to 7 and 14, which has the digest of the module"`
	Certificate string   `yaml:"certificate" doc:"file that vouchmq tpm certify has made (PEM); without it a policy names the key of the TPM"`
	EventLog    string   `yaml:"event_log" doc:"file of the firmware's event log, to be sent along, such as /sys/kernel/security/tpm0/binary_bios_measurements"`
}

// SEVSNP says what a guest of SEV-SNP attests with.
type SEVSNP struct {
	Certificate string `yaml:"certificate" doc:"file of the certificate of the VCEK or VLEK (PEM or DER), for hosts that do not give it along with each report"`
}

// CCA says what a realm of Arm CCA attests with.
type CCA struct {
	PlatformKey string `yaml:"platform_key" doc:"file of the public half of the platform's attestation key (CPAK; PEM or DER), as the maker of the machine has published it; with tee: cca it must be there"`
}

// Sim says how the simulated TEE behaves.
type Sim struct {
	QuoteTime time.Duration `yaml:"quote_time" min:"0s" max:"1m" doc:"how long it takes for a quote, of which it makes one at a time, as hardware does: for measurements"`
}

// Attestation says when connections that attest must do so again, and what evidence is verified with.
type Attestation struct {
	Reattest time.Duration `yaml:"reattest" min:"0s" max:"24h" doc:"time between two rounds of a connection, give or take a fifth; 0: none is demanded, and evidence counts as long as the connection stands"`
	Grace    time.Duration `yaml:"grace" min:"1s" max:"1h" doc:"time beyond that until a connection is ended; and after a change of what the broker attests, until its clients have seen the new evidence or are ended"`

	Collateral Collateral `yaml:"collateral" doc:"what it takes to verify evidence of Intel's TEEs; takes a restart"`
}

// Collateral says where what it takes to verify evidence of Intel's TEEs is kept, and where it comes from.
type Collateral struct {
	Directory string        `yaml:"directory" doc:"directory of the documents, made if it is not there, see vouchmq collateral; without it there are only those that come with evidence, and nothing is remembered"`
	Refresh   time.Duration `yaml:"refresh" min:"0s" max:"720h" doc:"how long before they expire they are fetched anew; 0s: never, somebody else fills the directory"`
	PCS       string        `yaml:"pcs" doc:"address, without path, of what they are fetched from: a cache that speaks as Intel's service does; empty is Intel's service"`
	RootCRL   string        `yaml:"root_crl" doc:"address of the revocation list of Intel's root (DER); empty is Intel's"`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `yaml:"level" enum:"debug|info|warn|error" doc:"the least severe that is logged"`
	Format string `yaml:"format" enum:"text|json" doc:"form of a line; takes a restart"`
	Redact bool   `yaml:"redact" doc:"client ids, user names, topics and filters stand in the log as short keyed digests; takes a restart"`
	Access bool   `yaml:"access" doc:"lines for clients that come, go and subscribe; takes a restart"`
}
