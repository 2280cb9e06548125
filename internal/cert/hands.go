package cert

import "strings"

// NeedsHands says what a person has to do at a machine that is not as it should be, and where it stands; empty: nothing. watch is what the
// lab's watch says of it. p may be nil. Only what no program can do is said.
func NeedsHands(p *Provided, rack, position, watch string) string {
	text := watch
	if text == "" && p != nil {
		switch {
		case p.Holder == AJuju || p.Holder == Otherwise:
		case p.Power == PowerError:
			text = "its BMC does not answer: look at its network and power"
		case p.Status == StatusReleaseFailed && strings.Contains(strings.ToLower(p.StatusName), "eras"):
			text = "erasing its disks failed: look at the disks, " + because(p) + "then release it again"
		case p.Status == StatusBroken:
			text = "it is marked broken at the provider: " + because(p) + "mend it and return it to service"
		case p.Status == StatusTestFailed:
			text = "its hardware tests failed: " + because(p) + "look at their output at the provider"
		case p.PowerType == "manual" && (p.Status == StatusDeploying || p.Status == StatusDeployFailed || p.Status == StatusReleasing):
			text = "nobody but a person can switch it: switch it " + map[bool]string{true: "on", false: "off"}[p.Status == StatusDeploying]
		}
	}
	if text == "" {
		return ""
	}
	return text + Where(rack, position)
}

func because(p *Provided) string {
	if p.StatusMessage == "" {
		return ""
	}
	return strings.TrimRight(p.StatusMessage, ". ") + "; "
}

// Where says where a machine stands, to go behind a sentence; empty if nobody knows.
func Where(rack, position string) string {
	switch {
	case rack == "" && position == "":
		return ""
	case position == "":
		return " (rack " + rack + ")"
	case rack == "":
		return " (position " + position + ")"
	}
	return " (rack " + rack + ", " + position + ")"
}
