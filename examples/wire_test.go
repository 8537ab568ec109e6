package examples

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// cannotCapture is the exit status of run.py where capturing is not permitted.
const cannotCapture = 77

// TestWirePrivacy runs the script that shows outsiders, with tshark, what an observer learns.
func TestWirePrivacy(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds two programs and starts tshark a dozen times")
	}
	for _, tool := range []string{"python3", "tshark", "dumpcap"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed, and CI=true", tool)
		}
		t.Skipf("%s is not installed (Debian: apt-get install tshark)", tool)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "python3", "wire-privacy/run.py", "--connections", "4").CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == cannotCapture {
		t.Skipf("this machine does not permit capturing on lo: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
