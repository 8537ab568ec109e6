package brokertest

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// ScriptLimits are the limits with which a script begins.
var ScriptLimits = abi.Limits{
	MaxPacketSize: 1 << 20, MaxInflight: 20, ReceiveMaximum: 20, TopicAliasMaximum: 10,
	MaxQueued: 100, MaxQueuedBytes: 1 << 20, MaxRetained: 10_000, MaxRetainedBytes: 10 << 20,
	MaxSessions: 1000, MaxSubscriptions: 100, MaxTopicLevels: 16, MaxSessionExpiry: 0xFFFFFFFF,
	MaxMemory: 64 << 20, ConnectTimeout: 10_000, StallTimeout: 5000, StepWork: 1 << 20,
}

// Script is a conversation of clients with a core, line by line:
//
//	# a comment; behind a line it needs two spaces before it
//	limits max-queued=3 step-work=1     limits that differ from ScriptLimits, see limitFields
//	options methods=SCRAM,x response-prefix=reply/%c server-reference=b:1883 check-payload failure-80
//	options shared=sticky overflow=drop-oldest
//	                                    replaces all options, see setOptions
//	rule provenance identity=x user=y anonymous listener=z publish a/# b subscribe c/+
//	                                    replaces "everybody may do everything"; several make a list, and
//	                                    several of the words of who, separated by "or", several conditions
//	apply                               gives the core limits, options and rules again, in the middle of a script
//	at 12.5s                            lets time pass until 12.5 seconds after the beginning
//	client a: open listener=tls identity=x,y user=u platform=p module=m authenticate v5
//	                                    connects the network only (the version is for reading answers to raw
//	                                    packets); connect does it too if it has not been done
//	client a: connect v5 clean-start client-id=x keep-alive=10 will=t will-payload=x will-qos=1 will-retain ...
//	client a: publish t/1 qos1 id=7 payload=hello user=key:value
//	client a: subscribe 1 t/+ qos1 no-local u/# sub-id=5
//	client a: puback last               "last" is the packet id of the PUBLISH that was expected last
//	client a: lost                      the network connection ends
//	host a: blocked                     also unblocked, synced, "disconnect 0x98", "bad-packet 0x95"
//	host a: accept user=u data=d reason=r property=k:v
//	                                    answers the question who a is; also "continue data=d", "refuse 0x87
//	                                    reason=r", and what a host should not say: "answers 5 raw=00ff"
//	host: publish $SYS/x qos1 retain payload=1
//	host: ask 7 sessions limit=2 text=x arg=0x98
//	                                    also session, subscriptions, retained, do-disconnect, do-forget,
//	                                    do-clear-retained; with the word more it goes on after the last answer
//	host: asks raw=00ff                 what is no question
//	client a: hasty publish t           handed over by the host though the core has not asked for it
//	shutdown 0x9d server=other:1883     reason and reference may be left out
//	together ... end                    the events of these lines are one batch
//	repeat 3..10 ... end repeat         %n in these lines is 3, 4 ... 10
//	expect a: publish t/1 qos1 payload=hello
//	expect a: closed                    also paused, resumed, sync
//	expect a: authenticate connect client-id=x user=u password=p method=m data=d
//	expect a: proceed one               also "proceed all"
//	expect host: answer 7 count=2 more  and then each record, as: session a v5 connected expiry=5
//	expect note dropped a               a note about the connection of a
//	expect note subscribed a t/+ 1      with what it says
//	expect stats retained=3 queued=0    see statFields; limit-queue=1 and so on are what Stats.LimitsMet counts
//
// What a client receives must be expected before the next line that makes something happen, in that order and
// with all its properties. Only the packet id of a PUBLISH and what every CONNACK announces may be left out.
type Script struct {
	rig      *Rig
	limits   abi.Limits
	options  abi.Options
	rules    []abi.Rule
	ruled    bool
	ready    bool
	together int
	clients  map[string]*scriptClient
	answers  []string // of the core, not expected so far
	cursor   uint32   // of the last answer
}

type scriptClient struct {
	conn    *Conn
	version mqtt.Version
	items   []string // received and not expected so far
	lastID  string   // packet id of the PUBLISH that was expected last
}

// RunScript runs a script with a core. limits are those of the script's beginning. The error begins with name and
// the number of the line.
func RunScript(core Core, name, text string, limits abi.Limits) error {
	s := &Script{rig: New(core), limits: limits, clients: map[string]*scriptClient{}}
	s.rig.Sync = false
	lines := strings.Split(text, "\n")
	if err := s.runLines(name, 1, lines, ""); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return fmt.Errorf("%s:%d: at the end: %w", name, len(lines), err)
	}
	return nil
}

// runLines runs lines, of which the first has the given number. n is what %n stands for.
func (s *Script) runLines(name string, first int, lines []string, n string) error {
	for i := 0; i < len(lines); i++ {
		line, _, _ := strings.Cut(lines[i], "  # ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(strings.ReplaceAll(line, "%n", n))
		if count, ok := strings.CutPrefix(line, "repeat "); ok {
			length := slices.IndexFunc(lines[i+1:], func(l string) bool { return strings.TrimSpace(l) == "end repeat" })
			var from, to int
			if _, err := fmt.Sscanf(count, "%d..%d", &from, &to); length < 0 || err != nil {
				return fmt.Errorf("%s:%d: no range, or no end repeat", name, first+i)
			}
			for k := from; k <= to; k++ {
				if err := s.runLines(name, first+i+1, lines[i+1:i+1+length], strconv.Itoa(k)); err != nil {
					return fmt.Errorf("%w (%%n is %d)", err, k)
				}
			}
			i += length + 1
			continue
		}
		if err := s.runLine(line); err != nil {
			return fmt.Errorf("%s:%d: %w\n\t%s", name, first+i, err, line)
		}
	}
	return nil
}

func (s *Script) runLine(line string) error {
	if line == "" {
		return nil
	}
	word, rest, _ := strings.Cut(line, " ")
	w := splitWords(rest)
	switch word {
	case "limits":
		return s.setLimits(w)
	case "options":
		return s.setOptions(w)
	case "rule":
		return s.addRule(w)
	case "expect":
		return s.expect(rest)
	}
	if err := s.start(); err != nil {
		return err
	}
	if s.together == 0 {
		if err := s.settle(); err != nil {
			return err
		}
	}
	if err := s.act(word, rest, w); err != nil {
		return err
	}
	if s.together > 0 {
		return nil
	}
	return s.rig.Run()
}

// act does what a line that is not an expectation says.
func (s *Script) act(word, rest string, w *words) error {
	switch word {
	case "client":
		return s.client(rest)
	case "host:":
		return s.hostItself(w)
	case "host":
		return s.host(rest)
	case "at":
		return s.at(rest)
	case "apply":
		s.configure()
		return w.end()
	case "shutdown":
		reason := w.reason()
		server, _ := w.value("server")
		s.rig.Event(abi.EventShutdown, 0, uint32(reason), []byte(server))
		return w.end()
	case "together":
		s.together++
		return w.end()
	case "end":
		if s.together--; s.together < 0 {
			return fmt.Errorf("end of nothing")
		}
		return w.end()
	}
	return fmt.Errorf("unknown word %q", word)
}

// start configures the core, before the first line that needs it.
func (s *Script) start() error {
	if s.ready {
		return nil
	}
	s.ready = true
	if !s.ruled {
		s.rules = []abi.Rule{{
			Who: []abi.Condition{{Listener: "plain"}}, Publish: []string{"#", "$SYS/#", "$x/#"}, Subscribe: []string{"#", "$SYS/#", "$x/#"},
		}}
	}
	s.configure()
	return s.rig.Run()
}

func (s *Script) configure() {
	s.rig.Configure(&abi.Config{Limits: s.limits, Options: s.options, Rules: s.rules})
	if s.ready {
		s.ruled = false
	}
}

func (s *Script) setLimits(w *words) error {
	for name, set := range limitFields {
		if n, ok := w.number(name); ok {
			set(&s.limits, n)
		}
	}
	return w.end()
}

// limitFields are the words that stand for limits.
var limitFields = map[string]func(*abi.Limits, uint32){
	"max-inflight":       func(l *abi.Limits, n uint32) { l.MaxInflight = uint16(n) },
	"receive-maximum":    func(l *abi.Limits, n uint32) { l.ReceiveMaximum = uint16(n) },
	"alias-maximum":      func(l *abi.Limits, n uint32) { l.TopicAliasMaximum = uint16(n) },
	"max-queued":         func(l *abi.Limits, n uint32) { l.MaxQueued = n },
	"max-queued-bytes":   func(l *abi.Limits, n uint32) { l.MaxQueuedBytes = n },
	"max-retained":       func(l *abi.Limits, n uint32) { l.MaxRetained = n },
	"max-retained-bytes": func(l *abi.Limits, n uint32) { l.MaxRetainedBytes = n },
	"max-sessions":       func(l *abi.Limits, n uint32) { l.MaxSessions = n },
	"max-subscriptions":  func(l *abi.Limits, n uint32) { l.MaxSubscriptions = n },
	"max-topic-levels":   func(l *abi.Limits, n uint32) { l.MaxTopicLevels = uint16(n) },
	"max-keep-alive":     func(l *abi.Limits, n uint32) { l.MaxKeepAlive = uint16(n) },
	"max-session-expiry": func(l *abi.Limits, n uint32) { l.MaxSessionExpiry = n },
	"max-memory":         func(l *abi.Limits, n uint32) { l.MaxMemory = n },
	"connect-timeout":    func(l *abi.Limits, n uint32) { l.ConnectTimeout = n },
	"stall-timeout":      func(l *abi.Limits, n uint32) { l.StallTimeout = n },
	"step-work":          func(l *abi.Limits, n uint32) { l.StepWork = n },
	"max-topic-bytes":    func(l *abi.Limits, n uint32) { l.MaxTopicBytes = uint16(n) },
	"max-aliases-out":    func(l *abi.Limits, n uint32) { l.MaxAliasesOut = uint16(n) },
	"max-module-memory":  func(l *abi.Limits, n uint32) { l.MaxModuleMemory = n },
}

// addRule reads "identity=x listener=y or anonymous publish a b subscribe c".
func (s *Script) addRule(w *words) error {
	if !s.ruled { // the first of a list
		s.ruled, s.rules = true, nil
	}
	rule := abi.Rule{Who: []abi.Condition{{}}, Provenance: w.flag("provenance")}
	var to *[]string
	for _, word := range w.list {
		name, value, _ := strings.Cut(word, "=")
		who := &rule.Who[len(rule.Who)-1]
		switch {
		case word == "publish":
			to = &rule.Publish
		case word == "subscribe":
			to = &rule.Subscribe
		case to != nil:
			*to = append(*to, word)
		case word == "or":
			rule.Who = append(rule.Who, abi.Condition{})
		case word == "anonymous":
			who.Anonymous = true
		case name == "identity":
			who.Identity = value
		case name == "user":
			who.User = value
		case name == "listener":
			who.Listener = value
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	s.rules = append(s.rules, rule)
	return nil
}

// at lets time pass.
func (s *Script) at(text string) error {
	t, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	if t < s.rig.Now() {
		return fmt.Errorf("it is %v already", s.rig.Now())
	}
	return s.rig.Advance(t - s.rig.Now())
}

// client does what "a: publish ..." says.
func (s *Script) client(text string) error {
	name, rest, ok := strings.Cut(text, ": ")
	if !ok {
		return fmt.Errorf("it is not said whose packet it is")
	}
	c := s.clients[name]
	if c == nil {
		c = &scriptClient{}
		s.clients[name] = c
	}
	w := splitWords(rest)
	hasty := w.flag("hasty")
	if i := slices.Index(w.list, "last"); i == 1 {
		w.list[i] = c.lastID
	}
	switch {
	case w.flag("open"):
		return s.open(c, w)
	case len(w.list) > 0 && w.list[0] == "connect":
		return s.connect(name, c, w)
	case c.conn == nil || c.conn.Gone():
		return fmt.Errorf("%s is not connected", name)
	case w.flag("lost"):
		c.conn.Lose()
		return w.end()
	}
	packet, err := buildPacket(c.version, w)
	switch {
	case err != nil:
		return err
	case hasty:
		c.conn.Hasty(packet)
	default:
		c.conn.Packets(packet)
	}
	return nil
}

func (s *Script) open(c *scriptClient, w *words) error {
	peer := abi.Peer{Listener: "plain", Authenticate: w.flag("authenticate")}
	if v, ok := w.value("listener"); ok {
		peer.Listener = v
	}
	if v, ok := w.value("identity"); ok {
		peer.Identities = strings.Split(v, ",")
	}
	peer.User, _ = w.value("user")
	peer.Platform, _ = w.value("platform")
	peer.Module, _ = w.value("module")
	if len(w.list) > 0 {
		version, err := parseVersion(w.next("the version"))
		if err != nil {
			return err
		}
		c.version = version
	}
	if c.conn != nil && !c.conn.Gone() {
		return fmt.Errorf("it is open already")
	}
	c.conn = s.rig.Open(&peer)
	return w.end()
}

func (s *Script) connect(name string, c *scriptClient, w *words) (err error) {
	if c.conn == nil || c.conn.Gone() {
		if err := s.open(c, &words{}); err != nil {
			return err
		}
	}
	w.next("connect")
	if c.version, err = parseVersion(w.next("the version")); err != nil {
		return err
	}
	packet, err := buildConnect(c.version, name, w)
	if err == nil {
		c.conn.Packets(packet)
	}
	return err
}

// host does what "a: blocked" says.
func (s *Script) host(text string) error {
	name, rest, _ := strings.Cut(text, ": ")
	c := s.clients[name]
	if c == nil || c.conn == nil {
		return fmt.Errorf("%s is not connected", name)
	}
	w := splitWords(rest)
	if data, reason, ok := w.authAnswer(); ok { // also one that comes too late
		c.conn.Answer(reason, data)
		return w.end()
	}
	if c.conn.Gone() {
		return fmt.Errorf("%s is not connected", name)
	}
	kind, ok := hostEvents[w.next("the event")]
	if !ok {
		return fmt.Errorf("unknown event %q", rest)
	}
	c.conn.Event(kind, uint32(w.reason()), nil)
	return w.end()
}

var hostEvents = map[string]abi.EventKind{
	"blocked": abi.EventBlocked, "unblocked": abi.EventUnblocked, "synced": abi.EventSynced,
	"disconnect": abi.EventDisconnect, "bad-packet": abi.EventBadPacket,
}

// authAnswer takes the words of an answer who a client is.
func (w *words) authAnswer() (data []byte, reason uint32, ok bool) {
	switch {
	case w.flag("accept"):
	case w.flag("continue"):
		reason = uint32(mqtt.ContinueAuthentication)
	case w.flag("refuse"), w.flag("answers"):
		reason = w.parse("reason code", w.next("the reason code"))
	default:
		return nil, 0, false
	}
	if v, ok := w.value("raw"); ok {
		data, err := hex.DecodeString(v)
		if err != nil {
			w.fail("%v", err)
		}
		return data, reason, true
	}
	var a abi.AuthAnswer
	a.User, _ = w.value("user")
	v, _ := w.value("data")
	a.Data = w.payload(v)
	v, _ = w.value("reason")
	a.Reason = string(w.payload(v))
	if v, ok := w.value("property"); ok {
		a.Properties = strings.SplitN(v, ":", 2)
	}
	return abi.AppendAuthAnswer(nil, &a), reason, true
}

// hostItself does what "publish t" or "ask 1 sessions" says.
func (s *Script) hostItself(w *words) error {
	switch word := w.next("what the host does"); word {
	case "publish":
		p := abi.Publication{QoS: w.qos(), Retain: w.flag("retain")}
		payload, _ := w.value("payload")
		p.Topic, p.Payload = w.next("the topic"), w.payload(payload)
		s.rig.Event(abi.EventPublish, 0, 0, abi.AppendPublication(nil, &p))
	case "ask":
		s.askCore(w)
	case "publishes", "asks": // what is not one
		v, _ := w.value("raw")
		data, err := hex.DecodeString(v)
		if err != nil {
			return err
		}
		s.rig.Event(map[string]abi.EventKind{"publishes": abi.EventPublish, "asks": abi.EventAsk}[word], 0, 0, data)
	default:
		w.fail("unknown word %q", word)
	}
	return w.end()
}

// askCore queues a question: "7 sessions limit=2".
func (s *Script) askCore(w *words) {
	number := w.parse("number", w.next("the number of the question"))
	word := w.next("the question")
	q := abi.Question{Kind: questions[word]}
	if q.Kind == 0 {
		w.fail("unknown question %q", word)
		return
	}
	q.Limit, _ = w.number("limit")
	q.Arg, _ = w.number("arg")
	q.Text, _ = w.value("text")
	if w.flag("more") {
		q.Cursor = s.cursor
	}
	s.rig.Event(abi.EventAsk, 0, number, abi.AppendQuestion(nil, &q))
}

var questions = map[string]abi.QuestionKind{
	"sessions": abi.AskSessions, "session": abi.AskSession, "subscriptions": abi.AskSubscriptions, "retained": abi.AskRetained,
	"do-disconnect": abi.DoDisconnect, "do-forget": abi.DoForget, "do-clear-retained": abi.DoClearRetained,
}

// hear turns the answers of the core into words.
func (s *Script) hear() error {
	for i := range s.rig.Answers {
		a := &s.rig.Answers[i]
		items, err := describeAnswer(a)
		if err != nil {
			return err
		}
		s.answers, s.cursor = append(s.answers, items...), a.Cursor
	}
	s.rig.Answers = nil
	return nil
}

// expectAnswer checks what the core has answered.
func (s *Script) expectAnswer(want string) error {
	if err := s.hear(); err != nil {
		return err
	}
	if len(s.answers) == 0 {
		return fmt.Errorf("the core has answered nothing")
	}
	got := s.answers[0]
	s.answers = s.answers[1:]
	if got != want {
		return fmt.Errorf("the core has answered %q", got)
	}
	return nil
}

// collect turns what a client has received into words.
func (c *scriptClient) collect() error {
	if c.conn == nil {
		return nil
	}
	items, err := c.conn.Received()
	for _, item := range items {
		if item.Mark != "" {
			c.items = append(c.items, item.Mark)
			continue
		}
		text, err := Describe(item.Packet, c.version)
		if err != nil {
			return err
		}
		c.items = append(c.items, text)
	}
	return err
}

// settle fails if a client has received something that was not expected.
func (s *Script) settle() error {
	for _, name := range slices.Sorted(maps.Keys(s.clients)) {
		c := s.clients[name]
		if err := c.collect(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(c.items) > 0 {
			return fmt.Errorf("%s has received %d items that were not expected, first %q", name, len(c.items), c.items[:min(len(c.items), 10)])
		}
	}
	if err := s.hear(); err != nil {
		return err
	}
	if len(s.answers) > 0 {
		return fmt.Errorf("the core has answered what was not expected, first %q", s.answers[:min(len(s.answers), 10)])
	}
	return nil
}

// expect checks what has come of the last line that made something happen.
func (s *Script) expect(text string) error {
	if rest, ok := strings.CutPrefix(text, "note "); ok {
		return s.expectNote(splitWords(rest))
	}
	if rest, ok := strings.CutPrefix(text, "stats "); ok {
		return s.expectStats(splitWords(rest))
	}
	name, want, ok := strings.Cut(text, ": ")
	if name == "host" {
		return s.expectAnswer(want)
	}
	c := s.clients[name]
	if c == nil || !ok {
		return fmt.Errorf("no client %q", name)
	}
	if err := c.collect(); err != nil {
		return err
	}
	if len(c.items) == 0 {
		return fmt.Errorf("%s has received nothing", name)
	}
	got := c.items[0]
	c.items = c.items[1:]
	if id, ok := splitWords(got).value("id"); ok {
		c.lastID = id
	}
	if !sameWords(strings.Fields(want), strings.Fields(got)) {
		return fmt.Errorf("%s has received %q", name, got)
	}
	return nil
}

// sameWords compares what is expected with what has come. The order of words matters only among those that may
// come several times.
func sameWords(want, got []string) bool {
	exactly := slices.Contains(want, "exactly")
	want = slices.DeleteFunc(want, func(word string) bool { return word == "exactly" })
	rest := slices.Clone(got)
	for _, word := range want {
		i := slices.Index(rest, word)
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if !exactly {
		rest = slices.DeleteFunc(rest, mayBeLeftOut)
	}
	return len(rest) == 0 && slices.Equal(ordered(want), ordered(got))
}

func mayBeLeftOut(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	return slices.Contains([]string{"id", "receive-maximum", "packet-maximum", "alias-maximum", "shared", "reason-string"}, name)
}

// ordered returns the words whose order matters.
func ordered(list []string) (some []string) {
	for i, word := range list {
		if !strings.Contains(word, "=") && i > 1 && word != "retain" && word != "dup" && word != "session-present" || strings.HasPrefix(word, "user=") {
			some = append(some, word)
		}
	}
	return some
}

var noteNames = map[string]abi.Note{
	"connected": abi.NoteConnected, "disconnected": abi.NoteDisconnected, "refused": abi.NoteRefused,
	"protocol": abi.NoteProtocol, "dropped": abi.NoteDropped, "denied": abi.NoteDenied, "subscribed": abi.NoteSubscribed,
	"unsubscribed": abi.NoteUnsubscribed, "limit": abi.NoteLimit,
}

// expectNote looks for a note and forgets all that came before it.
func (s *Script) expectNote(w *words) error {
	kind, ok := noteNames[w.next("the note")]
	c := s.clients[w.next("the client")]
	if !ok || c == nil || c.conn == nil {
		return fmt.Errorf("unknown note or client")
	}
	want := strings.Join(w.list, " ")
	for i, n := range s.rig.Notes {
		if n.Kind == kind && n.Conn == c.conn.ID && (want == "" || want == n.words()) {
			s.rig.Notes = s.rig.Notes[i+1:]
			return nil
		}
	}
	return fmt.Errorf("no such note; there are %v", s.rig.Notes)
}

// words returns what a note says as words, the client id left out.
func (n *Note) words() string {
	switch n.Kind {
	case abi.NoteConnected:
		var c abi.Connected
		_ = abi.ReadConnected([]byte(n.Text), &c)
		list := appendText([]string{fmt.Sprintf("v%d", c.Version)}, "user", c.User, c.User != "")
		list = appendNumber(appendNumber(list, "keep-alive", uint32(c.KeepAlive)), "expiry", c.Expiry)
		return strings.Join(appendFlag(appendFlag(list, "clean-start", c.CleanStart), "session-present", c.SessionPresent), " ")
	case abi.NoteDisconnected:
		var d abi.Disconnected
		_ = abi.ReadDisconnected([]byte(n.Text), &d)
		return strings.Join(appendFlag([]string{reasonWord(mqtt.ReasonCode(d.Reason))}, "orderly", d.Orderly), " ")
	case abi.NoteSubscribed, abi.NoteUnsubscribed:
		var sub abi.Subscribed
		_ = abi.ReadSubscribed([]byte(n.Text), &sub)
		return fmt.Sprintf("%s %d", sub.Filter, sub.Reason)
	case abi.NoteLimit:
		var l abi.LimitMet
		_ = abi.ReadLimitMet([]byte(n.Text), &l)
		return l.Limit.String()
	}
	return oneWord(n.Text)
}

// statFields are the words that stand for statistics.
var statFields = map[string]func(*abi.Stats) uint64{
	"connections":    func(s *abi.Stats) uint64 { return s.Connections },
	"sessions":       func(s *abi.Stats) uint64 { return s.Sessions },
	"subscriptions":  func(s *abi.Stats) uint64 { return s.Subscriptions },
	"shared":         func(s *abi.Stats) uint64 { return s.Shared },
	"retained":       func(s *abi.Stats) uint64 { return s.Retained },
	"queued":         func(s *abi.Stats) uint64 { return s.Queued },
	"received":       func(s *abi.Stats) uint64 { return s.Received },
	"sent":           func(s *abi.Stats) uint64 { return s.Sent },
	"dropped-qos0":   func(s *abi.Stats) uint64 { return s.DroppedQoS0 },
	"dropped-queue":  func(s *abi.Stats) uint64 { return s.DroppedQueue },
	"denied":         func(s *abi.Stats) uint64 { return s.Denied },
	"refused":        func(s *abi.Stats) uint64 { return s.Refused },
	"faults":         func(s *abi.Stats) uint64 { return s.Faults },
	"authenticated":  func(s *abi.Stats) uint64 { return s.Authenticated },
	"retained-bytes": func(s *abi.Stats) uint64 { return s.RetainedBytes },
	"inflight":       func(s *abi.Stats) uint64 { return s.Inflight },
	"expired":        func(s *abi.Stats) uint64 { return s.Expired },
	"message-bytes":  func(s *abi.Stats) uint64 { return s.MessageBytes },
}

func (s *Script) expectStats(w *words) error {
	s.rig.Event(abi.EventStats, 0, 0, nil)
	if err := s.rig.Run(); err != nil {
		return err
	}
	for name, field := range statFields {
		if want, ok := w.number(name); ok && field(&s.rig.Stats) != uint64(want) {
			w.fail("%s is %d", name, field(&s.rig.Stats))
		}
	}
	for k, got := range s.rig.Stats.LimitsMet {
		name := "limit-" + abi.LimitKind(k).String()
		if want, ok := w.number(name); ok && got != uint64(want) {
			w.fail("%s is %d", name, got)
		}
	}
	return w.end()
}
