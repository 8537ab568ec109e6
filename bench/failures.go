package bench

import (
	"errors"
	"fmt"
)

// Failed is an error that names each variant that has no result, for it failed in every round; nil if there is none.
func (r Reports) Failed() (err error) {
	for _, report := range r {
		for _, row := range report.Rows {
			if row.Failed > 0 && row.Failed == len(report.samplesOf(row.Shape, row.Variant)) {
				err = errors.Join(err, fmt.Errorf("%s failed in every round (%s, QoS %d, %d bytes): %s", row.Variant, row.Shape, report.QoS, report.Payload, row.Error))
			}
		}
	}
	return err
}

// Failed is an error that names each variant that has no result at a number, for it failed in every round; nil if there is none.
func (r PacedReports) Failed() (err error) {
	for _, report := range r {
		for _, row := range report.Rows {
			if row.Failed > 0 && row.Failed == len(report.samplesOf(row.X, row.Variant)) {
				err = errors.Join(err, fmt.Errorf("%s failed in every round (%s, %s %s, %s): %s", row.Variant, report.Case, number(row.X), report.Axis, report.Load(), row.Error))
			}
		}
	}
	return err
}

// Failed is an error that names each setting with which no client got in; nil if there is none.
func (r *ConnectReport) Failed() (err error) {
	for _, row := range r.Rows {
		if row.Made == 0 {
			err = errors.Join(err, fmt.Errorf("no client got in (%v): %s", row.ConnectSetting, row.Error))
		}
	}
	return err
}

// Failed is an error that names what has no result, of those parts in which that is no reason to end; nil if there is nothing.
func (e *Evaluation) Failed() error {
	err := errors.Join(e.Throughput.Failed(), PacedReports(e.Paced).Failed())
	if e.Connect != nil {
		err = errors.Join(err, e.Connect.Failed())
	}
	return err
}
