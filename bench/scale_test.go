package bench

import (
	"strings"
	"testing"
)

// What is judged is the median of the ratios of the rounds: a round in which the machine was slow counts for both of its measurements.
func TestCostIsComparedRoundByRound(t *testing.T) {
	c := CostReport{Of: "topics", Few: 10, Many: 10_000, Samples: []CostSample{
		{Cost: 100, Then: 110, Rate: 1, RateThen: 1}, {Cost: 1000, Then: 1120, Rate: 1, RateThen: 1}, {Cost: 100, Then: 200, Rate: 1, RateThen: 1},
	}}
	c.summarize()
	if c.Ratio != (Spread{1.12, 1.1, 2}) || c.Cost != 100 || c.Then != 200 {
		t.Errorf("%+v", c)
	}
	r := ScaleReport{Costs: []CostReport{c}}
	if bars := r.bars(); len(bars) != 1 || !bars[0].Met() || bars[0].Spread != "1.1 to 2" || r.Failures() != nil {
		t.Errorf("%v, %v", bars, r.Failures())
	}
	// One bar for both: what the evaluation says is not reached fails here, too.
	r.Costs[0].Ratio.Value = 1.16
	if missed := r.Failures(); r.bars()[0].Met() || len(missed) != 1 || !strings.Contains(missed[0], "16 % more with 10000 topics than with 10, more than 15 %") {
		t.Errorf("%v", missed)
	}
}

func TestHandshakeBarHasItsSpread(t *testing.T) {
	r := HandshakeReport{Rows: []HandshakeRow{{HandshakeSample: HandshakeSample{Variant: "attested"}, Share: 0.7, LeastShare: 0.6, MostShare: 0.8}}}
	if bars := r.bars(); len(bars) != 1 || bars[0].Spread != "0.6 to 0.8" || !bars[0].Met() {
		t.Errorf("%v", bars)
	}
}
