// Package archtest holds the rules of the repository that a compiler does not
// check, as tests: which room may import which, what the packages that run
// inside WebAssembly may import at all, that they start no goroutines, that
// every package says what it is for, and that no file names the machine it was
// written on.
//
// A new package belongs to the room whose folder it is in. A new room, or a new
// road between two rooms, needs a row in the table of rooms_test.go.
package archtest
