package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// stolenTime is how long processors of this virtual machine had work and did not get to it, because the host let others run on
// them: all processors together, since the machine started, in steps of 10 ms. It is 0 where the host does not tell.
func stolenTime() time.Duration {
	b, _ := os.ReadFile("/proc/stat")   // other systems have none
	stolen, _ := parseStolen(string(b)) // 0 if the kernel does not count it
	return stolen
}

// parseStolen reads steal, the eighth number of the first line of proc_stat(5), in hundredths of a second.
func parseStolen(stat string) (time.Duration, error) {
	const steal = 8
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) <= steal || fields[0] != "cpu" {
		return 0, fmt.Errorf("%q does not say what was stolen", line)
	}
	ticks, err := strconv.ParseInt(fields[steal], 10, 64)
	return time.Duration(ticks) * time.Second / ticksPerSecond, err
}
