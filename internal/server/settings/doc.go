// Package settings reads vouchmq.yaml, the environment and flags into one [File], strictly, and remembers where each
// value came from.
//
//	flag > environment > file > default
//
// The structs of the sections are the only description of the keys: the reader, the environment's names, the JSON
// schema ([Schema]) and the list for documents ([Keys]) are all made from them and their tags.
//
//	yaml      the key
//	doc       what it means, one sentence without a full stop
//	enum      the values that a text may have, separated by |
//	min, max  bounds of a number; of a duration, as a duration
//	required  the file must have it
//	secret    its value is never shown
//
// A type with [encoding.TextUnmarshaler] is a text here. A type with SetDefaults is given its defaults before it is
// read. A section of another package joins in by its yaml tags alone.
//
// Every problem has a place: line and column of the file, the variable, or the flag. [Read] goes on after a problem, so
// that all are told at once. It looks at nothing outside of its arguments: whether files exist and fit is for
// whoever opens them, who reports by [Settings.Problem].
package settings
