package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// WriteTable writes the reports for people.
func (all Reports) WriteTable(w io.Writer) error {
	for _, r := range all {
		fmt.Fprintf(w, "QoS %d, %d bytes, median of %d measurements of %v", r.QoS, r.Payload, r.Rounds, time.Duration(r.Window))
		if r.QoS > 0 {
			fmt.Fprintf(w, "; in flight: %d from each publisher, %d to each subscriber", windowOf(r.Payload), ReceiveMaximum)
		}
		fmt.Fprint(w, "\n\n")
		if err := r.writeTable(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}

func (r Report) writeTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "shape\tvariant\tdeliveries/s\tleast\tmost\tdropped\tCPUs: broker\tgenerator\t\n")
	last := ""
	for _, row := range r.Rows {
		if last != "" && row.Shape != last {
			fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\n")
		}
		last = row.Shape
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", row.Shape, row.Variant, thousands(row.Median), thousands(row.Least),
			thousands(row.Most), row.Dropped, ratioOrNone(row.Processors.Broker), ratioOrNone(row.Processors.Generator), failures(row.Failed, row.Error))
	}
	if len(r.Ratios) > 0 {
		fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\n")
	}
	for _, ratio := range r.Ratios {
		fmt.Fprintf(t, "%s\t%s / %s\t%.2f\t%.2f\t%.2f\t%s\t\t\t\n", ratio.Shape, ratio.Of, ratio.To, ratio.Value, ratio.Least, ratio.Most, ratio.verdict())
	}
	return t.Flush()
}

// failures says why rounds have no result, if there are any.
func failures(count int, last string) string {
	if count == 0 {
		return ""
	}
	if count == 1 {
		return "1 round failed: " + last
	}
	return fmt.Sprintf("%d rounds failed: %s", count, last)
}

// verdict says of a ratio that has a limit whether it keeps it.
func (r Ratio) verdict() string {
	if r.Limit == 0 {
		return ""
	}
	b := r.bar("")
	return b.limit() + ": " + b.Verdict()
}

// distinct returns the values of rows that differ, in the order in which they come first.
func distinct[R any, V comparable](rows []R, of func(R) V) (all []V) {
	for _, row := range rows {
		if v := of(row); !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

// thousands writes a rate with its groups of three digits apart.
func thousands(f float64) string {
	s := strconv.FormatFloat(f, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// WriteCSV writes every sample, for plots.
func (all Reports) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{"qos", "payload_bytes", "shape", "variant", "round", "deliveries_per_second", "sent", "expected", "delivered",
		"broker_processors", "generator_processors", "error"})
	for _, r := range all {
		for _, s := range r.Samples {
			c.Write([]string{
				strconv.Itoa(int(s.QoS)), strconv.Itoa(s.Payload), s.Shape, s.Variant, strconv.Itoa(s.Round), strconv.FormatFloat(s.Rate, 'f', 1, 64),
				strconv.FormatUint(s.Sent, 10), strconv.FormatUint(s.Expected, 10), strconv.FormatUint(s.Delivered, 10),
				strconv.FormatFloat(s.Processors.Broker, 'f', 3, 64), strconv.FormatFloat(s.Processors.Generator, 'f', 3, 64), s.Error,
			})
		}
	}
	c.Flush()
	return c.Error()
}
