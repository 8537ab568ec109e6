package attest

// Field is one thing that evidence says, for people.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
