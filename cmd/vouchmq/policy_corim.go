package main

import "github.com/spf13/cobra"

func newPolicyToCoRIM() *cobra.Command { return &cobra.Command{Use: "to-corim FILE"} }

func newPolicyFromCoRIM() *cobra.Command { return &cobra.Command{Use: "from-corim FILE"} }
