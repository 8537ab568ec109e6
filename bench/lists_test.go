package bench

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestListsHaveEveryMeasurement(t *testing.T) {
	for _, c := range []struct {
		write func(io.Writer) error
		want  string
	}{
		{HandshakeReport{Samples: []HandshakeSample{{"TLS", 10, 2, 3}, {"attested", 5, 4, 6}, {"TLS", 20, 1, 1}}}.WriteCSV,
			"variant,round,handshakes_per_second,client_ns,broker_ns\nTLS,1,10.0,2,3\nattested,1,5.0,4,6\nTLS,2,20.0,1,1\n"},
		{VerifyReport{Samples: []VerifySample{{"sgx", 2, 7}}}.WriteCSV, "evidence,round,ns\nsgx,2,7\n"},
		{SoakReport{RSS: []RSSSample{{Seconds(1500 * time.Millisecond), 9}}}.WriteCSV, "at_seconds,rss_bytes\n1.5,9\n"},
		{ScaleReport{
			SubscriptionBytes: 3, ClientsBytes: 2, EmptyBytes: 1, Idle: []IdleReport{{TLS, 10, 4}},
			Costs: []CostReport{{Of: "topics", Few: 10, Many: 20, Samples: []CostSample{{Round: 1, Cost: 5, Then: 6}}}},
			Steps: &StepsReport{Phases: []StepPhase{{Name: "all come", LongestStep: LongestStep{Used: 7}}}},
		}.WriteCSV, "part,what,round,value,unit\nsubscriptions,empty,1,1.0,bytes\nsubscriptions,clients,1,2.0,bytes\nsubscriptions,all,1,3.0,bytes\n" +
			"idle,tls,1,4.0,bytes\ntopics,10,1,5.0,ns\ntopics,20,1,6.0,ns\nsteps,all come,1,7.0,ns\n"},
	} {
		var list strings.Builder
		if err := c.write(&list); err != nil || list.String() != c.want {
			t.Errorf("%v:\n%s", err, list.String())
		}
	}
}
