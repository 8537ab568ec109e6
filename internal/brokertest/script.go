package brokertest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

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
