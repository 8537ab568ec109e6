package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// WriteTable writes the report for people. Times are in microseconds.
func (r PacedReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s\tvariant\tp50 us\tp90\tp99\t(least\tmost)\tp99.9\tmax\tlate p99\tdelivered\t\n", r.Axis)
	last := r.Rows[0].X
	for _, row := range r.Rows {
		if row.X != last {
			fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\t\t\t\n")
			last = row.X
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", number(row.X), row.Variant,
			micros(row.P50), micros(row.P90), micros(row.P99), micros(row.LeastP99), micros(row.MostP99), micros(row.P999), micros(row.Max),
			micros(row.Late), row.share(), row.remark())
	}
	fmt.Fprintln(t)
	for _, ratio := range r.Ratios {
		fmt.Fprintf(t, "%s\t%s / %s\tp99\t\t%.2f\t%.2f\t%.2f\t\t\t\t\t\n", number(ratio.X), ratio.Of, ratio.To, ratio.Value, ratio.Least, ratio.Most)
	}
	return t.Flush()
}

func micros(m Micros) string { return thousands(m.Number()) }

func (r PacedRow) share() string {
	if r.Expected == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(r.Delivered)/float64(r.Expected), 'f', 1, 64) + " %"
}

// remark says of a row what its numbers do not.
func (r PacedRow) remark() string {
	switch {
	case r.Failed > 0:
		return " " + failures(r.Failed, r.Error)
	case r.Expected == 0:
		return " no message was due in so short a time"
	case !r.Kept():
		return " does not keep pace"
	}
	return ""
}

// PacedReports are what came of several plans.
type PacedReports []PacedReport

// WriteCSV writes every sample.
func (all PacedReports) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{
		"case", "qos", "x", "variant", "round", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "late_p99_us", "expected", "delivered", "error",
	})
	for _, r := range all {
		for _, s := range r.Samples {
			line := []string{r.Case, strconv.Itoa(int(r.QoS)), strconv.FormatFloat(s.X, 'g', -1, 64), s.Variant, strconv.Itoa(s.Round)}
			for _, m := range []Micros{s.P50, s.P90, s.P99, s.P999, s.Max, s.Late} {
				line = append(line, strconv.FormatFloat(m.Number(), 'f', 1, 64))
			}
			c.Write(append(line, strconv.FormatUint(s.Expected, 10), strconv.FormatUint(s.Delivered, 10), s.Error))
		}
	}
	c.Flush()
	return c.Error()
}
