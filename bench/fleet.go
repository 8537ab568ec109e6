package bench

import "fmt"

// A fleet is a number of devices, each with one filter and one topic that this filter alone matches. Seven of ten filters are
// exact, two have a +, one ends with #, as those of programs that watch machines do.

const (
	fleetPlants = 100
	fleetLines  = 10 // of a plant
)

// device is a member of the fleet by its number, from 0. Its sensor's number is unique in its plant.
type device int

func (d device) plant() int  { return int(d) % fleetPlants }
func (d device) sensor() int { return int(d) / fleetPlants }
func (d device) line() int   { return d.sensor() % fleetLines }

// watched reports whether the device's filter ends with #: it matches any number of topics.
func (d device) watched() bool { return (d.plant()+d.sensor())%10 == 9 }

func (d device) filter() string {
	switch (d.plant() + d.sensor()) % 10 {
	case 7, 8:
		return fmt.Sprintf("plant/%d/line/+/sensor/%d/value", d.plant(), d.sensor())
	case 9:
		return fmt.Sprintf("plant/%d/line/%d/sensor/%d/#", d.plant(), d.line(), d.sensor())
	}
	return d.topic()
}

func (d device) topic() string {
	return fmt.Sprintf("plant/%d/line/%d/sensor/%d/value", d.plant(), d.line(), d.sensor())
}

// event is one of many topics of a device that is watched.
func (d device) event(number int) string {
	return fmt.Sprintf("plant/%d/line/%d/sensor/%d/event/%d", d.plant(), d.line(), d.sensor(), number)
}

// fleetFilters are those of count devices from a number on.
func fleetFilters(from, count int) (filters []string) {
	for i := range count {
		filters = append(filters, device(from+i).filter())
	}
	return filters
}

// Sizes of fleetShapes.
const (
	fleetMeasured    = 1000 // devices that send; the first of the fleet
	fleetSubscribers = 10   // which share their filters
	fleetPublishers  = 4    // which share their topics
	fleetEvents      = 2000 // of each device that is watched: far more topics than a broker remembers
)

// knownShape publishes to the same topic of each device over and over, so that a broker can remember who gets it.
func knownShape() Shape {
	return fleetShape("known", func(d device) []string { return []string{d.topic()} })
}

// freshShape publishes to topics that the broker has not seen for long: each must be matched with all filters anew.
func freshShape() Shape {
	return fleetShape("fresh", func(d device) (events []string) {
		for k := range fleetEvents {
			if d.watched() {
				events = append(events, d.event(k))
			}
		}
		return events
	})
}

// fleetShape has each topic of the devices that send published by one of the publishers, and their filters held by the
// subscribers.
func fleetShape(name string, topics func(device) []string) Shape {
	return Shape{
		Name: name, Publishers: fleetPublishers, Subscribers: fleetSubscribers, fan: 1,
		topics: func(publisher int) (mine []string) {
			n := 0
			for d := range device(fleetMeasured) {
				for _, topic := range topics(d) {
					if n++; n%fleetPublishers == publisher {
						mine = append(mine, topic)
					}
				}
			}
			return mine
		},
		filters: func(subscriber int) (mine []string) {
			for d := device(subscriber); d < fleetMeasured; d += fleetSubscribers {
				mine = append(mine, d.filter())
			}
			return mine
		},
	}
}
