// Package detect tells what kind of evidence some bytes are, by looking at the bytes. Names of files are not looked at.
//
// Known are evidence of VouchMQ, quotes of Intel SGX (version 3) and TDX (versions 4 and 5), reports of AMD SEV-SNP, documents of AWS Nitro
// Enclaves, tokens of Arm CCA, quotes of TPMs and HCL reports of Azure (raw, or in the JSON of Confidential Containers), certificates of RA-TLS with a
// quote inside, and the tagged quotes of which those consist. Each may come as it is, as hexadecimal
// digits (with 0x or without), as base64, or as PEM; quotes also as "QuoteHex" in a JSON object, as Intel's SDK samples have it.
//
// Nothing is verified here, but for one thing: whether the report data of an RA-TLS certificate is that of its key.
package detect
