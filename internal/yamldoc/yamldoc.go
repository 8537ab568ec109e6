// Package yamldoc reads a file that holds one YAML document into its nodes, within bounds: the YAML parser is recursive, and
// files may come from anybody. What the nodes mean is for the caller, which also knows how it tells of errors.
package yamldoc

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how many levels a document may nest.
const maxDepth = 16

// Fault says why a file is not one YAML document.
type Fault struct {
	At   *token.Token // where; nil if that is the file as a whole
	Text string
}

func (f *Fault) Error() string { return f.Text }

// Parse returns the root of the one document in text, which may have maxSize bytes. The error is a [Fault].
func Parse(text []byte, maxSize int) (ast.Node, *Fault) {
	if len(text) > maxSize {
		return nil, &Fault{nil, fmt.Sprintf("file of %d bytes is too large (at most %d)", len(text), maxSize)}
	}
	tokens := lexer.Tokenize(string(text))
	if deep := tooDeep(tokens); deep != nil {
		return nil, &Fault{deep, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, syntaxFault(err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, &Fault{nil, "file must hold exactly one YAML document"}
	}
	return file.Docs[0].Body, nil
}

func syntaxFault(err error) *Fault {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		return &Fault{syntax.Token, "not valid YAML: " + syntax.Message}
	}
	return &Fault{nil, "not valid YAML: " + err.Error()}
}

// tooDeep returns the token at which a document nests too deep, nil if it does not: by braces, by indentation, and by
// dashes on one line.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType:
			dashes++
		}
		if max(flow, dashes, t.Position.IndentLevel) > maxDepth || t.Position.IndentNum > 8*maxDepth {
			return t
		}
	}
	return nil
}
