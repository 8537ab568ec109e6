package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// pubFlags are the flags of pub. Where the payload comes from is exactly one of the first five.
type pubFlags struct {
	connectFlags
	message, file      string
	lines, null, stdin bool
	topic              string
	qos                uint8
	retain             bool
	repeat             int
	repeatDelay        float64
	messageGiven       bool
}

func newPub() *cobra.Command {
	var f pubFlags
	c := &cobra.Command{
		Use:   "pub -t TOPIC {-m TEXT | -f FILE | -s | -l | -n} [--bundle FILE | -h HOST -p PORT]",
		Short: "Publish messages",
		Long: `Publish messages. The options are named as those of mosquitto_pub.

With --bundle the broker is verified first, by attestation: if it is not what the bundle says, nothing is sent and
the exit status is 3.

With -l or --repeat a lost connection is opened anew, as by vouchmq sub, and what is not known to have arrived is sent
again, but for messages at QoS 2, which could arrive twice; --no-reconnect ends pub instead.

Exit status: 0 sent, and acknowledged as the QoS demands; 1 wrong usage or another error; 2 no connection;
3 attestation refused; 4 the broker refused.`,
		Example: `  vouchmq pub --bundle plant.bundle -t sensors/1/temperature -m 21.5 -q 1
  vouchmq pub -h broker.example -p 8883 --cafile ca.pem -t sensors/1/state -m on -r
  seq 100 | vouchmq pub --bundle plant.bundle -t numbers -l
  vouchmq pub -t a/b -m hello -D publish content-type text/plain -D publish user-property colour red`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.messageGiven = c.Flags().Changed("message")
			return quietly(f.quiet, c, f.run(c.Context(), c))
		},
	}
	f.register(c)
	fs := c.Flags()
	fs.StringVarP(&f.topic, "topic", "t", "", "topic to publish to")
	fs.StringVarP(&f.message, "message", "m", "", "payload")
	fs.StringVarP(&f.file, "file", "f", "", "payload: the content of a file")
	fs.BoolVarP(&f.stdin, "stdin-file", "s", false, "payload: all of standard input")
	fs.BoolVarP(&f.lines, "stdin-line", "l", false, "one message for each line of standard input")
	fs.BoolVarP(&f.null, "null-message", "n", false, "an empty payload")
	fs.Uint8VarP(&f.qos, "qos", "q", 0, "quality of service: 0, 1 or 2")
	fs.BoolVarP(&f.retain, "retain", "r", false, "have the broker keep the message for later subscribers")
	fs.IntVar(&f.repeat, "repeat", 1, "send it so many times")
	fs.Float64Var(&f.repeatDelay, "repeat-delay", 0, "seconds between them")
	return c
}

// quietly prints nothing of an error if so asked; the exit status stays.
func quietly(quiet bool, c *cobra.Command, err error) error {
	if quiet && err != nil {
		c.Root().SetErr(io.Discard)
	}
	return err
}

func (f *pubFlags) check() error {
	if f.topic == "" {
		return errors.New("to which topic? Use -t")
	}
	if !mqtt.ValidTopicName([]byte(f.topic)) {
		return fmt.Errorf("%q is not a topic: + and # are for subscribers", f.topic)
	}
	if f.qos > 2 {
		return fmt.Errorf("-q %d: QoS is 0, 1 or 2", f.qos)
	}
	sources := 0
	for _, given := range []bool{f.messageGiven, f.file != "", f.stdin, f.lines, f.null} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return errors.New("what is to be sent? Use one of -m, -f, -s, -l and -n")
	}
	if f.repeat < 1 || f.repeatDelay < 0 || f.lines && f.repeat > 1 {
		return errors.New("--repeat is a number from 1 and --repeat-delay one from 0; neither goes with -l")
	}
	return nil
}

func (f *pubFlags) run(ctx context.Context, c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	options, err := f.options(c)
	if err != nil {
		return err
	}
	payload, err := f.payload(c.InOrStdin())
	if err != nil {
		return err
	}
	f.lasts = f.lines || f.repeat > 1
	client, err := f.connect(ctx, c, options)
	if err != nil {
		return err
	}
	if f.lines {
		err = f.publishLines(ctx, client, c.InOrStdin())
	} else {
		err = f.publishRepeatedly(ctx, client, payload)
	}
	if err != nil {
		return err
	}
	return client.Disconnect(f.properties["disconnect"])
}

func (f *pubFlags) payload(stdin io.Reader) ([]byte, error) {
	switch {
	case f.file != "":
		return os.ReadFile(f.file)
	case f.stdin:
		return io.ReadAll(stdin)
	}
	return []byte(f.message), nil
}

func (f *pubFlags) publishRepeatedly(ctx context.Context, client pubsub.Client, payload []byte) error {
	delay := time.Duration(f.repeatDelay * float64(time.Second))
	for i := range f.repeat {
		if i > 0 && delay > 0 {
			select {
			case <-time.After(delay):
			case <-client.Done():
				return client.Err()
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := f.publish(ctx, client, payload); err != nil {
			return err
		}
	}
	return nil
}

func (f *pubFlags) publishLines(ctx context.Context, client pubsub.Client, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 256<<20) // no MQTT packet is longer
	for lines.Scan() {
		if err := f.publish(ctx, client, lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (f *pubFlags) publish(ctx context.Context, client pubsub.Client, payload []byte) error {
	return client.Publish(ctx, &pubsub.Message{
		Topic: f.topic, Payload: payload, QoS: f.qos, Retain: f.retain, Properties: f.properties["publish"],
	})
}
