package broker

import (
	"errors"
	"strconv"
	"testing"

	"github.com/vouchmq/vouchmq/internal/brokertest"
)

// TestAgainstModel lets clients do random things and compares what they get with what a model says. VOUCHMQ_SEED repeats
// a failure, VOUCHMQ_ROUNDS says how often it is done.
func TestAgainstModel(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for _, seed := range brokertest.ModelSeeds(rounds) {
		core := New()
		if err := brokertest.PlayModel(core, seed, core.checkGroups); err != nil {
			t.Fatal(err)
		}
		if n := core.groups.waiting; n != 0 {
			t.Fatal(errors.New(strconv.Itoa(int(n)) + " messages wait with groups although all have been acknowledged"))
		}
	}
}
