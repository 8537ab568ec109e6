package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/format"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// subFlags are the flags of sub.
type subFlags struct {
	connectFlags
	topics, filterOut, unsubscribe       []string
	qos                                  uint8
	count                                int
	timeout                              uint32
	verbose, noNewline                   bool
	format                               string
	exitAfterSub, noRetained, onlyRetain bool
	retainAsPublished                    bool
}

func newSub() *cobra.Command {
	var f subFlags
	c := &cobra.Command{
		Use:   "sub -t FILTER [-t FILTER...] [--bundle FILE | -h HOST -p PORT]",
		Short: "Subscribe, and print what comes",
		Long: `Subscribe to topics and print the messages that come. The options are named as those of mosquitto_sub.

With --bundle the broker is verified first, by attestation: if it is not what the bundle says, nothing is sent and
the exit status is 3.

When the connection is lost, or the broker goes away, sub connects anew, after 1 second at first and 30 at last, and
subscribes again where the broker has no session of it; --no-reconnect ends it instead. With --bundle the broker is
verified anew each time, by the bundle as it is in the file then, and on a connection that stands as soon as the
broker attests another configuration or the file is another; one that is not what the bundle says is left at once.
What happens is said on standard error, unless with --quiet.

Exit status: 0 after -C messages, -E, or a signal; 1 wrong usage or another error; 2 no connection, or it was lost with --no-reconnect;
3 attestation refused; 4 the broker refused the connection or a subscription; 27 the time of -W is up.

Letters of -F: %t topic, %p payload, %x %X payload in hexadecimal, %q QoS, %r retain, %d duplicate, %l length,
%m packet id, %I %U time received, %j JSON, %C content-type, %E message-expiry-interval, %R response-topic,
%D correlation-data, %A payload-format-indicator, %S subscription-identifier, %P user properties, %% percent sign;
\n \r \t \0 \e \a \\.`,
		Example: `  vouchmq sub --bundle plant.bundle -t 'sensors/#' -v
  vouchmq sub --bundle plant.bundle -t 'sensors/+/temperature' -q 1 -C 10 -F '%I %t %p'
  vouchmq sub -h broker.example -p 8883 --cafile ca.pem -t 'sensors/#' -i logger -c -q 1`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return quietly(f.quiet, c, f.run(c.Context(), c)) },
	}
	f.register(c)
	fs := c.Flags()
	fs.StringArrayVarP(&f.topics, "topic", "t", nil, "topic filter; may be repeated")
	fs.StringArrayVarP(&f.filterOut, "filter-out", "T", nil, "print no messages whose topic matches; may be repeated")
	fs.StringArrayVarP(&f.unsubscribe, "unsubscribe", "U", nil, "unsubscribe from a filter of a kept session; may be repeated")
	fs.Uint8VarP(&f.qos, "qos", "q", 0, "highest quality of service: 0, 1 or 2")
	fs.IntVarP(&f.count, "count", "C", 0, "exit after so many messages")
	fs.Uint32VarP(&f.timeout, "timeout", "W", 0, "exit with status 27 after so many seconds")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "print the topic before each payload")
	fs.BoolVarP(&f.noNewline, "no-eol", "N", false, "print no end of line after the payload")
	fs.StringVarP(&f.format, "format", "F", "", "how to print, see above")
	fs.BoolVarP(&f.exitAfterSub, "exit-after-subscribe", "E", false, "exit when the broker has acknowledged the subscriptions")
	fs.BoolVarP(&f.noRetained, "no-retained", "R", false, "print no retained messages")
	fs.BoolVar(&f.onlyRetain, "retained-only", false, "print retained messages only, and exit at the first other one")
	fs.BoolVar(&f.retainAsPublished, "retain-as-published", false, "keep the retain flag as the publisher set it (MQTT 5)")
	return c
}

func (f *subFlags) check() error {
	if len(f.topics) == 0 && len(f.unsubscribe) == 0 {
		return errors.New("to which topics? Use -t")
	}
	for _, filter := range slices.Concat(f.topics, f.filterOut, f.unsubscribe) {
		if !mqtt.ValidTopicFilter([]byte(filter)) {
			return fmt.Errorf("%q is not a topic filter: + stands for one level, # for the last ones, each alone between slashes", filter)
		}
	}
	if f.qos > 2 {
		return fmt.Errorf("-q %d: QoS is 0, 1 or 2", f.qos)
	}
	if f.count < 0 {
		return errors.New("-C is a number from 1")
	}
	if f.noRetained && f.onlyRetain {
		return errors.New("-R and --retained-only exclude each other")
	}
	return nil
}

func (f *subFlags) run(ctx context.Context, c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	options, err := f.options(c)
	if err != nil {
		return err
	}
	p, err := f.newPrinter(c.OutOrStdout())
	if err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(f.timeout)*time.Second, errTimeout)
		defer cancel()
	}
	options.Receive, f.lasts = p.print, !f.exitAfterSub
	client, err := f.connect(ctx, c, options)
	if err != nil {
		return causeOr(ctx, err)
	}
	if err := f.subscribe(ctx, client, options.Log); err != nil {
		return causeOr(ctx, err)
	}
	return f.wait(ctx, client, p)
}

// causeOr prefers the reason why ctx ended to the error that this caused.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (f *subFlags) subscribe(ctx context.Context, client pubsub.Client, log func(string)) error {
	if len(f.unsubscribe) > 0 {
		if err := client.Unsubscribe(ctx, f.unsubscribe, f.properties["unsubscribe"]); err != nil {
			return err
		}
	}
	if len(f.topics) == 0 {
		return nil
	}
	var all []pubsub.Subscription
	for _, t := range f.topics {
		all = append(all, pubsub.Subscription{Filter: t, QoS: f.qos, RetainAsPublished: f.retainAsPublished})
	}
	granted, err := client.Subscribe(ctx, all, f.properties["subscribe"])
	if err == nil && log != nil {
		log(fmt.Sprintf("subscribed, QoS %v", granted))
	}
	return err
}

// wait waits for the end: enough messages, a signal, the time, or the loss of the connection.
func (f *subFlags) wait(ctx context.Context, client pubsub.Client, p *printer) error {
	if f.exitAfterSub {
		return client.Disconnect(f.properties["disconnect"])
	}
	select {
	case <-p.enough:
		return errors.Join(p.err, client.Disconnect(f.properties["disconnect"]))
	case <-client.Done():
		return client.Err()
	case <-ctx.Done():
		client.Disconnect(f.properties["disconnect"]) // best effort: this ends in any case
		var signal interrupted
		if errors.As(context.Cause(ctx), &signal) {
			return nil
		}
		return context.Cause(ctx)
	}
}

// printer prints messages, one after the other, until there are enough.
type printer struct {
	flags  *subFlags
	format format.Format
	out    *bufio.Writer
	left   int // messages still to print; negative for no end
	err    error
	ended  bool
	enough chan struct{}
}

func (f *subFlags) newPrinter(w io.Writer) (*printer, error) {
	p := &printer{flags: f, out: bufio.NewWriter(w), left: f.count, enough: make(chan struct{})}
	if f.count == 0 {
		p.left = -1
	}
	text := f.format
	if text == "" {
		text = "%p"
		if f.verbose {
			text = "%t %p"
		}
	}
	var err error
	p.format, err = format.Parse(text)
	return p, err
}

func (p *printer) print(m *pubsub.Message) {
	if p.ended {
		return
	}
	if p.flags.onlyRetain && !m.Retain {
		p.end(nil)
		return
	}
	if p.flags.noRetained && m.Retain || p.filtered(m.Topic) {
		return
	}
	line := p.format.Append(nil, m, time.Now())
	if !p.flags.noNewline {
		line = append(line, '\n')
	}
	p.out.Write(line)
	if err := p.out.Flush(); err != nil {
		p.end(fmt.Errorf("print: %w", err))
		return
	}
	if p.left--; p.left == 0 {
		p.end(nil)
	}
}

func (p *printer) end(err error) {
	p.err, p.ended = err, true
	close(p.enough)
}

func (p *printer) filtered(topic string) bool {
	return slices.ContainsFunc(p.flags.filterOut, func(filter string) bool { return mqtt.Match([]byte(filter), []byte(topic)) })
}
