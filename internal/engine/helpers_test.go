package engine

import "runtime"

// hasDeadman says whether a hang during a collection is noticed.
const hasDeadman = runtime.GOOS == "linux"

// runtimeGC starts a collection, which waits for the step that hangs.
func runtimeGC() { runtime.GC() }
