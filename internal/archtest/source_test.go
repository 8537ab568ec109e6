package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// pkg is what the rules need to know of a package, its tests left out.
type pkg struct {
	folder      string // from the root of the module, with slashes
	name        string
	doc         string
	imports     []string
	concurrency []string // places of go statements, channels and select
}

// root gives the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Fatal("no go.mod in this folder or above it")
		}
		folder = parent
	}
}

// packages reads all packages of the module, with all build constraints.
func packages(t *testing.T) []pkg {
	t.Helper()
	top := root(t)
	var out []pkg
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if path != top && skipped(path, entry.Name()) {
			return filepath.SkipDir
		}
		p, err := readPackage(top, path)
		if err == nil && p.name != "" {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("no packages below %s", top)
	}
	return out
}

// skipped tells of folders that hold no packages of the module.
func skipped(path, name string) bool {
	if name[0] == '.' || name[0] == '_' || name == "testdata" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

func readPackage(top, folder string) (pkg, error) {
	relative, err := filepath.Rel(top, folder)
	if err != nil {
		return pkg{}, err
	}
	p := pkg{folder: filepath.ToSlash(relative)}
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return pkg{}, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if err := p.read(file); err != nil {
			return pkg{}, err
		}
	}
	return p, nil
}

func (p *pkg) read(file string) error {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, file, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	p.name = parsed.Name.Name
	if parsed.Doc != nil {
		p.doc = parsed.Doc.Text()
	}
	for _, spec := range parsed.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports = append(p.imports, path)
	}
	ast.Inspect(parsed, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt:
			at := positions.Position(node.Pos())
			p.concurrency = append(p.concurrency, p.folder+"/"+filepath.Base(at.Filename)+":"+strconv.Itoa(at.Line))
		}
		return true
	})
	return nil
}
