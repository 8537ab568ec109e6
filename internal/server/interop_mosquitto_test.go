package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The adapter of Debian's command line clients of Mosquitto. A party is a mosquitto_sub that runs, with a mosquitto_pub for
// each message.

type mosquittoParty struct {
	route      *route
	sub        *exec.Cmd // nil without anything to wait for
	errs       Buffer
	answers    []int
	ready      chan struct{} // closed with the answer to the subscription
	done       chan struct{} // closed with the end of mosquitto_sub
	box        mailbox
	will       []string // arguments
	end        sync.Once
	subscribed sync.Once
}

func openMosquitto(t testing.TB, r *route) func(testing.TB, joining) party {
	t.Helper()
	needTool(t, "mosquitto_pub")
	needTool(t, "mosquitto_sub")
	return func(t testing.TB, j joining) party {
		t.Helper()
		p := &mosquittoParty{route: r, ready: make(chan struct{}), done: make(chan struct{})}
		if w := j.Will; w != nil {
			p.will = []string{"--will-topic", w.Topic, "--will-payload", string(w.Payload), "--will-qos", fmt.Sprint(w.QoS)}
		}
		if len(j.Wishes) == 0 && !j.Resume {
			return p
		}
		p.subscribe(t, j)
		return p
	}
}

// common is what all of Mosquitto's clients are told.
func (r *route) mosquittoArgs(more ...string) []string {
	args := []string{"-h", "localhost", "-p", r.port(), "-V", "mqttv" + strings.ReplaceAll(r.version, ".", "")}
	if r.ca != "" {
		args = append(args, "--cafile", r.ca)
	}
	return append(args, more...)
}

func (p *mosquittoParty) subscribe(t testing.TB, j joining) {
	t.Helper()
	// Without stdbuf, what -d prints waits in a buffer of the C library when nobody sits at a terminal.
	p.sub = exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, p.route.mosquittoArgs(p.subscribeArgs(j)...)...)...)
	p.sub.Stderr = &p.errs
	out, err := p.sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.sub.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	select {
	case <-p.ready:
	case <-p.done:
		t.Fatalf("mosquitto_sub ended\n%s", p.errs.String())
	case <-time.After(Patience):
		t.Fatalf("mosquitto_sub has not subscribed\n%s", p.errs.String())
	}
}

func (p *mosquittoParty) subscribeArgs(j joining) []string {
	args := []string{"-i", j.ID, "-d", "-F", "%x %j"}
	if len(j.Wishes) == 0 { // it does not run without
		args = append(args, "-t", "interop/nothing")
	}
	for _, w := range j.Wishes {
		args = append(args, "-t", w.Filter, "-q", fmt.Sprint(w.QoS))
		if w.Identifier != 0 {
			args = append(args, "-D", "subscribe", "subscription-identifier", fmt.Sprint(w.Identifier))
		}
	}
	if j.Resume {
		args = append(args, "-c")
		if p.route.version == "5" {
			args = append(args, "-x", fmt.Sprint(j.Expiry))
		}
	}
	return append(args, p.will...) // without topic aliases, which it would not take
}

// subscribed is the line of -d with the answer to a subscription.
var subscribed = regexp.MustCompile(`^Subscribed \(mid: 1\): ([0-9, ]+)$`)

func (p *mosquittoParty) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if answer := subscribed.FindStringSubmatch(lines.Text()); answer != nil {
			for code := range strings.SplitSeq(answer[1], ", ") {
				n, _ := strconv.Atoi(code)
				p.answers = append(p.answers, n)
			}
			p.subscribed.Do(func() { close(p.ready) })
		}
		fmt.Fprintf(&p.errs, "%.300s\n", lines.Text())
		if payload, message, ok := bytes.Cut(lines.Bytes(), []byte(" {")); ok {
			p.message(payload, append([]byte("{"), message...))
		}
	}
	_ = p.sub.Wait()
}

// mosquittoMessage is the form %j of mosquitto_sub.
type mosquittoMessage struct {
	Topic      string
	QoS        byte
	Retain     int
	Properties struct {
		ContentType   string          `json:"content-type"`
		ResponseTopic string          `json:"response-topic"`
		Correlation   string          `json:"correlation-data"`
		Expiry        uint32          `json:"message-expiry-interval"`
		Identifier    int             `json:"subscription-identifier"`
		User          json.RawMessage `json:"user-properties"`
	}
}

func (p *mosquittoParty) message(payload, text []byte) {
	var m mosquittoMessage
	content, err := hex.DecodeString(string(payload))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		fmt.Fprintf(&p.errs, "mosquitto_sub printed %.200q: %v\n", text, err)
		return
	}
	l := letter{Topic: m.Topic, Payload: content, QoS: m.QoS, Retain: m.Retain == 1, User: pairs(m.Properties.User)}
	l.ContentType, l.ResponseTopic, l.Correlation = m.Properties.ContentType, m.Properties.ResponseTopic, []byte(m.Properties.Correlation)
	l.Expiry = m.Properties.Expiry
	if m.Properties.Identifier != 0 {
		l.Identifiers = []int{m.Properties.Identifier}
	}
	p.box.add(l)
}

// pairs reads user properties, which are an object that may have a name twice.
func pairs(object json.RawMessage) (list [][2]string) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	_, _ = decoder.Token()
	for decoder.More() {
		name, _ := decoder.Token()
		value, _ := decoder.Token()
		list = append(list, [2]string{fmt.Sprint(name), fmt.Sprint(value)})
	}
	return list
}

// puback is the line of -d with the answer to a message of QoS 1.
var puback = regexp.MustCompile(`received PUBACK \(Mid: \d+, RC:(\d+)\)`)

func (p *mosquittoParty) publish(t testing.TB, letters ...letter) int {
	t.Helper()
	l := letters[0]
	args := p.route.mosquittoArgs("-d", "-t", l.Topic, "-q", fmt.Sprint(l.QoS))
	if l.Retain {
		args = append(args, "-r")
	}
	args = append(append(args, p.will...), propertyArgs(l)...)
	input := l.Payload
	switch {
	case len(letters) > 1: // each line is a message
		args = append(args, "-l")
		for _, next := range letters[1:] {
			input = append(append(input[:len(input):len(input)], '\n'), next.Payload...)
		}
	case len(l.Payload) == 0:
		args = append(args, "-n")
	default:
		args = append(args, "-s")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mosquitto_pub", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if answers := puback.FindAllSubmatch(out, -1); len(answers) == len(letters) {
		n, _ := strconv.Atoi(string(answers[len(answers)-1][1]))
		return n
	}
	if err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	return hidden
}

func propertyArgs(l letter) (args []string) {
	add := func(values ...string) { args = append(append(args, "-D", "publish"), values...) }
	if l.ContentType != "" {
		add("content-type", l.ContentType)
	}
	if l.ResponseTopic != "" {
		add("response-topic", l.ResponseTopic)
	}
	if l.Correlation != nil {
		add("correlation-data", string(l.Correlation))
	}
	for _, u := range l.User {
		add("user-property", u[0], u[1])
	}
	if l.Expiry != 0 {
		add("message-expiry-interval", fmt.Sprint(l.Expiry))
	}
	if l.Alias != 0 {
		add("topic-alias", fmt.Sprint(l.Alias))
	}
	return args
}

func (p *mosquittoParty) granted() []int     { return p.answers }
func (p *mosquittoParty) received() *mailbox { return &p.box }
func (p *mosquittoParty) resumed() int       { return hidden }
func (p *mosquittoParty) drop()              { p.signal(syscall.SIGKILL) }
func (p *mosquittoParty) leave()             { p.signal(syscall.SIGTERM) }

// signal ends mosquitto_sub, and with force if it does not end.
func (p *mosquittoParty) signal(s syscall.Signal) {
	if p.sub == nil {
		return
	}
	p.end.Do(func() {
		_ = p.sub.Process.Signal(s)
		select {
		case <-p.done:
		case <-time.After(Patience):
			_ = p.sub.Process.Kill()
			<-p.done
		}
	})
}

// requestsFromMosquitto lets mosquitto_rr ask, and each client answer. In MQTT 3.1.1 it works for want of correlation with
// the topic alone.
func requestsFromMosquitto(t *testing.T, r *rig) {
	for _, c := range testedClients {
		for _, version := range c.versions {
			if version == "3.1" { // mosquitto_rr has no such version
				continue
			}
			for _, transport := range []string{"tcp", "tls"} {
				t.Run(fmt.Sprintf("mosquitto_rr/%s/%s/%s", c.name, transport, version), func(t *testing.T) {
					t.Parallel()
					needTool(t, "mosquitto_rr")
					requestFromMosquitto(t, r.route(transport, version), c.open(t, r.route(transport, version)))
				})
			}
		}
	}
}

func requestFromMosquitto(t *testing.T, r *route, join func(testing.TB, joining) party) {
	base := "interop/" + t.Name()
	service := join(t, joining{ID: base, Wishes: []wish{{Filter: base + "/ask", QoS: 1}}})
	defer service.leave()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	rr := exec.CommandContext(ctx, "mosquitto_rr", r.mosquittoArgs("-q", "1", "-t", base+"/ask", "-e", base+"/answer", "-m", "6 times 7")...)
	var out, errs Buffer
	rr.Stdout, rr.Stderr = &out, &errs
	if err := rr.Start(); err != nil {
		t.Fatal(err)
	}
	question := service.received().take(t, 1)[0]
	if r.version == "5" && question.ResponseTopic != base+"/answer" {
		t.Errorf("the request has response topic %q", question.ResponseTopic)
	}
	service.publish(t, letter{Topic: base + "/answer", Correlation: question.Correlation, Payload: []byte("42"), QoS: 1})
	if err := rr.Wait(); err != nil || out.String() != "42\n" {
		t.Fatalf("mosquitto_rr: %v, printed %q\n%s", err, out.String(), errs.String())
	}
}
