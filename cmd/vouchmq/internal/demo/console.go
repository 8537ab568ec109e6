package demo

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
)

// console is where the demonstration tells what it does. It is coloured on a terminal only, and not even there if
// NO_COLOR is set (no-color.org) or the terminal is dumb.
type console struct {
	out    io.Writer
	colour bool
	step   int
}

func newConsole(out io.Writer) *console {
	return &console{out: out, colour: wantsColour(out)}
}

func wantsColour(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Colours, as numbers of the escape sequence "Select Graphic Rendition".
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (c *console) paint(colour, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// heading begins the next step.
func (c *console) heading(text string) {
	c.step++
	fmt.Fprintf(c.out, "\n%s\n", c.paint(bold, fmt.Sprintf("%d. %s", c.step, text)))
}

func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c.out, "   %s\n", fmt.Sprintf(format, args...))
}

// command shows what a person would type.
func (c *console) command(program string, args []string) {
	c.say("%s", c.paint(cyan, "$ "+program+" "+quoted(args)))
}

// from shows what a process printed, each line with its name before it.
func (c *console) from(name, text string) {
	for line := range strings.Lines(text) {
		c.say("%s %s", c.paint(dim, fmt.Sprintf("%-10s |", name)), strings.TrimRight(line, "\n"))
	}
}

func (c *console) good(format string, args ...any) {
	c.say("%s %s", c.paint(green, "ok"), fmt.Sprintf(format, args...))
}

func (c *console) bad(format string, args ...any) {
	c.say("%s %s", c.paint(red, "FAILED"), fmt.Sprintf(format, args...))
}

// quoted joins arguments so that a shell would read them again.
func quoted(args []string) string {
	var out []string
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " #*$&|;<>()'\"\\?+") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}
