package guard

import (
	"fmt"
	"net/netip"
	"time"
)

// Config says how failed logins are answered. In the configuration file:
//
//	guard:
//	  failures: 10              # an address with so many failed logins
//	  window: 10m               # within this time
//	  lockout: 15m              # is locked out for so long
//	  delay: 250ms              # the second failed login waits so long for its answer, the third twice as long
//	  max_delay: 4s             # and so on up to this
//	  exempt: [127.0.0.0/8, 10.20.0.5]
//	  max_addresses: 65536
//
// A field of 0 has its default.
type Config struct {
	// Disabled turns delays and lockouts off. Failed logins are still counted and logged.
	Disabled bool `yaml:"disabled" doc:"failed logins are counted and logged, and have no consequences"`
	// Failures is the number of failed logins within Window after which an address is locked out. Default 10.
	Failures int `yaml:"failures" doc:"failed logins after which an address is locked out; 0 is 10"`
	// Window is how long failures count together, from the first of them on. Default 10 minutes, at most a day.
	Window time.Duration `yaml:"window" doc:"time in which failures count together; 0s is 10m"`
	// Lockout is how long an address stays locked out. Default 15 minutes, at most 30 days.
	Lockout time.Duration `yaml:"lockout" doc:"how long an address is locked out; 0s is 15m"`
	// Delay is how long the answer to the second failed login in a row is held back; it doubles each time. Default
	// 250 ms.
	Delay time.Duration `yaml:"delay" doc:"how long the answer to the second failed login is held back, the third twice as long; 0s is 250ms"`
	// MaxDelay bounds the delay. Default 4 seconds, at most a minute. A client that has not been let in by the connect
	// timeout is disconnected without an answer.
	MaxDelay time.Duration `yaml:"max_delay" doc:"bound of the delay; 0s is 4s"`
	// Exempt are addresses and prefixes that are never delayed or locked out, such as a gateway of many clients.
	Exempt []string `yaml:"exempt" doc:"addresses and networks that are never delayed or locked out"`
	// MaxAddresses bounds how many addresses that failed are remembered, and how many that are locked out. Those that
	// failed longest ago are forgotten first. Default 65,536, some 10 MB when full.
	MaxAddresses int `yaml:"max_addresses" doc:"addresses that are remembered; 0 is 65536"`
}

// DefaultConfig has all defaults.
func DefaultConfig() Config {
	return Config{
		Failures: 10, Window: 10 * time.Minute, Lockout: 15 * time.Minute,
		Delay: 250 * time.Millisecond, MaxDelay: 4 * time.Second, MaxAddresses: 65_536,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.Failures = orDefault(c.Failures, d.Failures)
	c.Window = orDefault(c.Window, d.Window)
	c.Lockout = orDefault(c.Lockout, d.Lockout)
	c.Delay = orDefault(c.Delay, d.Delay)
	c.MaxDelay = orDefault(c.MaxDelay, d.MaxDelay)
	c.MaxAddresses = orDefault(c.MaxAddresses, d.MaxAddresses)
	return c
}

func orDefault[T int | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

// Check names the field that makes no sense.
func (c *Config) Check() error {
	const day = 24 * time.Hour
	switch {
	case c.Failures < 0 || c.Failures > 1_000_000:
		return fmt.Errorf("failures is %d: it must be 1 to 1000000", c.Failures)
	case c.Window < 0 || c.Window > day:
		return fmt.Errorf("window is %s: it must be at most a day", c.Window)
	case c.Lockout < 0 || c.Lockout > 30*day:
		return fmt.Errorf("lockout is %s: it must be at most 30 days", c.Lockout)
	case c.Delay < 0 || c.Delay > time.Minute:
		return fmt.Errorf("delay is %s: it must be at most a minute", c.Delay)
	case c.MaxDelay < 0 || c.MaxDelay > time.Minute:
		return fmt.Errorf("max_delay is %s: it must be at most a minute", c.MaxDelay)
	case c.MaxAddresses < 0 || c.MaxAddresses > 10_000_000:
		return fmt.Errorf("max_addresses is %d: it must be 1 to 10000000", c.MaxAddresses)
	}
	_, err := c.exemptions()
	return err
}

func (c *Config) exemptions() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for i, text := range c.Exempt {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("exempt[%d] is %q: it must be an address or a prefix such as 10.0.0.0/8", i, text)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}
