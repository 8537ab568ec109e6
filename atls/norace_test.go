//go:build !race

package atls_test

const raced = false
