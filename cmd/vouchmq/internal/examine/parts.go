package examine

import (
	"context"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/azure"
	"github.com/vouchmq/vouchmq/attest/detect"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Parts are files that belong to evidence in several files, as tools for TPMs write it.
type Parts struct {
	Quote     []byte // message of the quote, or a file that has more than that; for an HCL report
	Signature []byte // of the quote
	PCRs      []byte // values, see tpm.ParsePCRs
	Key       []byte // of the quote
	TDQuote   []byte // for an HCL report of TDX
}

// loose is evidence that no driver takes as it is: an HCL report without a quote, a quote by a key of which nothing is known.
type loose struct {
	note   string // what is lacking, for the verdict
	check  string // what is verified
	verify func(context.Context) (attest.PlatformClaims, error)
}

// gather puts the parts of evidence together, those of the file first. What a driver takes becomes the quote of found; else r.loose has it, or
// r.Err says what is missing.
func (r *Result) gather(found *detect.Found, o Options) {
	p := found.Parts
	if p == nil {
		return
	}
	err := o.Parts.fill(p)
	if err == nil && p.HCL != nil {
		err = r.gatherAzure(found, o)
	} else if err == nil {
		err = r.gatherTPM(found)
	}
	r.Err = err
}

// fill adds what other files have.
func (o *Parts) fill(p *detect.Parts) error {
	if o.Quote != nil {
		f, err := detect.Detect(o.Quote)
		if err != nil {
			return attest.Errorf(attest.ErrFormat, "--quote: %w", err)
		}
		if f.Parts == nil || f.Parts.Message == nil {
			return attest.Errorf(attest.ErrFormat, "--quote: it is %s, not a quote of a TPM", f.Format)
		}
		p.Message, p.Signature, p.PCRs = f.Parts.Message, f.Parts.Signature, f.Parts.PCRs
	}
	if o.TDQuote != nil {
		f, err := detect.Detect(o.TDQuote)
		if err != nil {
			return attest.Errorf(attest.ErrFormat, "--td-quote: %w", err)
		}
		p.TDQuote = f.Quote.Data // the verifier says if it is of another kind
	}
	if o.Signature != nil {
		p.Signature = o.Signature
	}
	if o.Key != nil {
		p.Key = o.Key
	}
	if o.PCRs == nil || p.Message == nil {
		return nil
	}
	var err error
	p.PCRs, err = tpm.ParsePCRs(p.Message, o.PCRs)
	return err
}

// lacking names the first part of a quote that is missing, nil if none is.
func lacking(p *detect.Parts) error {
	switch {
	case p.Message == nil:
		return attest.Errorf(attest.ErrMissing, "the quote itself is missing: name it with --quote")
	case p.Signature == nil:
		return attest.Errorf(attest.ErrMissing, "the signature of the quote is missing: name it with --signature")
	case p.PCRs == nil:
		return attest.Errorf(attest.ErrMissing, "the values of the PCRs are missing: name them with --pcrs")
	}
	return nil
}

// lackingKey says that a bare report came without the certificate or key by which it is verified, nil if it needs none.
func lackingKey(found *detect.Found) error {
	if found.Evidence != nil || len(found.Quote.Endorsements) > 0 {
		return nil
	}
	switch p := found.Parts; {
	case found.Quote.Platform == attest.SEVSNP, p != nil && p.HCL != nil && !azure.IsTDX(p.HCL):
		return attest.Errorf(attest.ErrMissing, "the certificate of the key that has signed the report (VCEK or VLEK) is missing: name it with --certificate")
	case found.Quote.Platform == attest.CCA:
		return attest.Errorf(attest.ErrMissing, "the platform's key (CPAK) is missing: name it with --certificate")
	}
	return nil
}

func (r *Result) gatherTPM(found *detect.Found) error {
	p := found.Parts
	if err := lacking(p); err != nil {
		return err
	}
	if p.Key == nil {
		return attest.Errorf(attest.ErrMissing, "the key that has signed is missing: name it with --ak; where it is in an HCL report of Azure, verify that, with this file as --quote")
	}
	key, err := tpm.ParseKey(p.Key)
	if err != nil {
		return err
	}
	q, err := tpm.ReadQuote(p.Message, p.Signature, p.PCRs, key)
	if err != nil {
		return err
	}
	if key.Public != nil {
		found.Quote, err = q.Evidence(key)
		return err
	}
	r.loose = &loose{
		note:   "SIGNED by the key that came with it, a key alone: nobody can tell that it is in a TPM, and no policy can accept it",
		check:  checkNames[attest.TPM],
		verify: func(context.Context) (attest.PlatformClaims, error) { return q.Claims(key) },
	}
	return nil
}

func (r *Result) gatherAzure(found *detect.Found, o Options) error {
	p, endorsements := found.Parts, found.Quote.Endorsements
	if p.TDQuote == nil && azure.IsTDX(p.HCL) {
		return attest.Errorf(attest.ErrMissing, "the TD quote is missing, which the hardware's word is in: name it with --td-quote")
	}
	if p.Message == nil && p.Signature == nil && p.PCRs == nil {
		r.loose = &loose{
			note:  "GENUINE as far as it goes: the hardware vouches for the paravisor and for the key of its vTPM. NO QUOTE of the vTPM is here (--quote), so nothing tells what has booted, nor when",
			check: "hardware's word for the runtime data",
			verify: func(ctx context.Context) (attest.PlatformClaims, error) {
				return azure.NewVerifier(o.Store).VerifyHCL(ctx, p.HCL, p.TDQuote, endorsements, o.Now)
			},
		}
		return nil
	}
	if err := lacking(p); err != nil {
		return err
	}
	key, err := azure.Key(p.HCL)
	if err != nil {
		return err
	}
	q, err := tpm.ReadQuote(p.Message, p.Signature, p.PCRs, key)
	if err != nil {
		return err
	}
	found.Quote, err = azure.Evidence(p.HCL, p.TDQuote, q)
	found.Quote.Endorsements = endorsements
	return err
}

// describeParts reads the fields of whatever parts there are.
func describeParts(found *detect.Found) (fields []attest.Field, err error) {
	p := found.Parts
	if p.HCL != nil {
		if fields, err = azure.DescribeHCL(p.HCL, found.Quote.Endorsements); err != nil {
			return nil, err
		}
	}
	if p.Message != nil {
		quote, err := tpm.DescribeQuote(&tpm.SignedQuote{Attested: p.Message, PCRs: p.PCRs})
		if err != nil {
			return nil, err
		}
		fields = append(fields, quote...)
	}
	if p.Key != nil {
		if key, err := tpm.ParseKey(p.Key); err == nil {
			fields = append(fields, key.Describe()...)
		}
	}
	return fields, nil
}

// tdQuote returns the quote of a TD that evidence of Azure has, nil if there is none.
func tdQuote(found *detect.Found) []byte {
	if found.Parts != nil {
		return found.Parts.TDQuote
	}
	return azure.TDQuote(found.Quote)
}
