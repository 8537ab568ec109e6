package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The adapter of clients that are programs of their own: testdata/interop/client.py says what they are told and what they tell.

const (
	debianPython = "/usr/bin/python3"                // the one that has Debian's packages
	nodeModules  = "../../build/mqttjs/node_modules" // where tools/get-test-tools puts MQTT.js
)

func openPython(t testing.TB, r *route) func(testing.TB, joining) party {
	t.Helper()
	if err := exec.Command(debianPython, "-c", "import paho.mqtt.client").Run(); err != nil {
		missing(t, "python3-paho-mqtt")
	}
	return startProgram(t, r, exec.Command(debianPython, "testdata/interop/client.py"))
}

func openNode(t testing.TB, r *route) func(testing.TB, joining) party {
	t.Helper()
	needTool(t, "node")
	if _, err := os.Stat(filepath.Join(nodeModules, "mqtt")); err != nil {
		missing(t, "mqttjs")
	}
	modules, err := filepath.Abs(nodeModules)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "testdata/interop/client.cjs")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return startProgram(t, r, cmd)
}

// order is a command to a program.
type order struct {
	Do         string  `json:"do"`
	Conn       string  `json:"conn"`
	ID         string  `json:"id,omitempty"`
	Clean      bool    `json:"clean"`
	Expiry     uint32  `json:"expiry,omitempty"`
	Aliases    uint16  `json:"aliases,omitempty"`
	Will       *letter `json:"will,omitempty"`
	Filter     string  `json:"filter,omitempty"`
	QoS        byte    `json:"qos"`
	Identifier int     `json:"identifier,omitempty"`
	Message    *letter `json:"message,omitempty"`
}

// news is what a program tells.
type news struct {
	Conn    string  `json:"conn"`
	Event   string  `json:"event"`
	Reason  *int    `json:"reason"`
	Present bool    `json:"present"`
	Message *letter `json:"message"`
	Error   string  `json:"error"`
}

func (n *news) reason() int {
	if n.Reason == nil {
		return hidden
	}
	return *n.Reason
}

// program is a running client.
type program struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	errs    Buffer
	mu      sync.Mutex
	parties map[string]*programParty
	done    chan struct{} // closed with the end of its output
}

// startProgram runs a client until the end of the test.
func startProgram(t testing.TB, r *route, cmd *exec.Cmd) func(testing.TB, joining) party {
	t.Helper()
	cmd.Args = append(cmd.Args, "--url", r.url(), "--version", r.version)
	if r.ca != "" {
		cmd.Args = append(cmd.Args, "--ca", r.ca)
	}
	p := &program{cmd: cmd, parties: map[string]*programParty{}, done: make(chan struct{})}
	cmd.Stderr = &p.errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.orders = json.NewEncoder(in)
	go p.read(out)
	t.Cleanup(func() { p.stop(t, in) })
	return p.join
}

// stop ends the program by closing its input, and with force if it does not end.
func (p *program) stop(t testing.TB, in io.Closer) {
	_ = in.Close()
	select {
	case <-p.done:
	case <-time.After(Patience):
		t.Error("the program does not end with its input")
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.cmd.Wait()
	if t.Failed() {
		t.Logf("%s\n%s", p.cmd, p.errs.String())
	}
}

func (p *program) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var n news
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			fmt.Fprintf(&p.errs, "printed %.200q: %v\n", lines.Bytes(), err)
			continue
		}
		p.mu.Lock()
		party := p.parties[n.Conn]
		p.mu.Unlock()
		switch {
		case n.Event == "message":
			party.box.add(*n.Message)
		case n.Event == "ended":
			party.close.Do(func() { close(party.ended) })
		default:
			party.news <- n
		}
	}
}

// programParty is one connection of a program.
type programParty struct {
	program *program
	name    string
	ack     news
	answers []int
	news    chan news
	box     mailbox
	close   sync.Once
	ended   chan struct{}
}

func (p *program) join(t testing.TB, j joining) party {
	t.Helper()
	p.mu.Lock()
	c := &programParty{program: p, name: fmt.Sprint(len(p.parties)), news: make(chan news, 100), ended: make(chan struct{})}
	p.parties[c.name] = c
	p.mu.Unlock()
	c.order(order{Do: "connect", ID: j.ID, Clean: !j.Resume, Expiry: j.Expiry, Aliases: j.Aliases, Will: j.Will})
	c.ack = c.next(t, "connected")
	for _, w := range j.Wishes {
		c.order(order{Do: "subscribe", Filter: w.Filter, QoS: w.QoS, Identifier: w.Identifier})
		answer := c.next(t, "subscribed")
		c.answers = append(c.answers, answer.reason())
	}
	return c
}

// order tells the program something. If it is gone, waiting for the answer says so.
func (c *programParty) order(o order) {
	o.Conn = c.name
	c.program.mu.Lock()
	defer c.program.mu.Unlock()
	_ = c.program.orders.Encode(o)
}

// next waits for an event.
func (c *programParty) next(t testing.TB, event string) news {
	t.Helper()
	select {
	case n := <-c.news:
		if n.Event != event {
			t.Fatalf("the program says %s %s, not %s", n.Event, n.Error, event)
		}
		return n
	case <-c.ended:
		t.Fatalf("the connection ended before %s\n%s", event, c.program.errs.String())
	case <-c.program.done:
		t.Fatalf("the program ended before %s\n%s", event, c.program.errs.String())
	case <-time.After(Patience):
		t.Fatalf("waited too long for %s\n%s", event, c.program.errs.String())
	}
	return news{}
}

func (c *programParty) publish(t testing.TB, letters ...letter) (reason int) {
	t.Helper()
	for _, l := range letters {
		c.order(order{Do: "publish", Message: &l})
		answer := c.next(t, "published")
		reason = answer.reason()
	}
	return reason
}

func (c *programParty) granted() []int     { return c.answers }
func (c *programParty) received() *mailbox { return &c.box }

func (c *programParty) resumed() int {
	if c.ack.Present {
		return 1
	}
	return 0
}

func (c *programParty) drop() { c.finish("drop") }

func (c *programParty) leave() { c.finish("disconnect") }

// finish ends the connection in some way, unless it has ended.
func (c *programParty) finish(how string) {
	select {
	case <-c.ended:
		return
	default:
	}
	c.order(order{Do: how})
	select {
	case <-c.ended:
	case <-c.program.done:
	case <-time.After(Patience):
		fmt.Fprintf(&c.program.errs, "connection %s did not end with %s\n", c.name, how)
	}
}
