package pubsub

import "fmt"

// returnCodeNames are those of CONNACK in MQTT 3.1.1, 3.2.2.3.
var returnCodeNames = map[byte]string{
	1: "unacceptable protocol version",
	2: "client identifier rejected",
	3: "server unavailable",
	4: "bad user name or password",
	5: "not authorized",
}

func returnCodeName(code byte) string {
	if name, ok := returnCodeNames[code]; ok {
		return name
	}
	return fmt.Sprintf("return code %d", code)
}
