package results

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// system reads one of the top-level keys that describe the machine, or one that is not known.
func (d *decoder) system(key string) error {
	s := &d.sub.System
	switch key {
	case "kernel":
		return d.set(&s.Kernel, d.escapedAt, key)
	case "kernel-cmdline":
		return d.set(&s.KernelCmdline, d.stringAt, key)
	case "architecture":
		return d.set(&s.Architecture, d.stringAt, key)
	case "distribution", "processor":
		if d.peek() != '{' {
			break
		}
		m, err := d.loose(key)
		if key == "distribution" {
			s.Distribution = m
		} else {
			s.Processor = m
		}
		return err
	case "memory":
		if d.peek() != '{' {
			break
		}
		return d.memory(key)
	case "packages":
		if d.peek() != '[' {
			break
		}
		return d.packages(key)
	case "snap-packages":
		if d.peek() != '[' {
			break
		}
		return d.snaps(key)
	case "system_information":
		if d.peek() != '{' {
			break
		}
		return d.collectors(key)
	case "dkms_info", "devices", "raw-devices-dmi", "modprobe-info", "pci_subsystem_id", "bto-info", "image-version", "buildstamp":
		return d.other(key)
	}
	return d.extraAt(&d.sub.Extra, key)
}

// loose reads an object of escaped texts that may have something else among them.
func (d *decoder) loose(path string) (map[string]string, error) {
	return d.texts(path, func(path string) (string, error) {
		text, err := d.looseAt(path)
		return unescape.Replace(text), err
	})
}

func (d *decoder) other(key string) error {
	v, err := d.valueAt(d.opts.Limits.Value)
	if d.sub.System.Other == nil {
		d.sub.System.Other = make(map[string]Value)
	}
	d.sub.System.Other[key] = v
	return err
}

func (d *decoder) memory(path string) error {
	m := new(Memory)
	d.sub.System.Memory = m
	number := func(at string) (int64, error) {
		text, err := d.stringAt(at)
		if err != nil || text == "" {
			return 0, err
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < 0 || f >= 1<<62 {
			return 0, d.wrong(at, "a number of bytes")
		}
		return int64(f), nil
	}
	return d.fields(path, func(key string) (err error) {
		at := join(path, key)
		switch key {
		case "total":
			m.Total, err = number(at)
			return err
		case "swap":
			m.Swap, err = number(at)
			return err
		}
		return d.extraAt(&d.sub.Extra, at)
	})
}

func (d *decoder) packages(path string) error {
	return d.array(func(i int) error {
		path := fmt.Sprintf("%s[%d]", path, i)
		if d.peek() != '{' {
			return d.wrong(path, "an object")
		}
		before := d.held.left
		m, err := d.loose(path)
		if err != nil {
			return err
		}
		p := Package{Name: m["name"], Version: m["version"]}
		d.held.left = before // the rest is not kept
		d.sub.System.Packages = append(d.sub.System.Packages, p)
		return d.take(packageCost + len(p.Name) + len(p.Version))
	})
}

func (d *decoder) snaps(path string) error {
	return d.array(func(i int) error {
		path := fmt.Sprintf("%s[%d]", path, i)
		if d.peek() != '{' {
			return d.wrong(path, "an object")
		}
		m, err := d.loose(path)
		if err != nil {
			return err
		}
		d.sub.System.Snaps = append(d.sub.System.Snaps, m)
		return d.take(entryCost)
	})
}

func (d *decoder) collectors(path string) error {
	s := &d.sub.System
	s.Collectors = make(map[string]Collector)
	return d.fields(path, func(name string) error {
		at := join(path, name)
		if d.peek() != '{' {
			if name == "version" {
				return d.set(&s.CollectorsVersion, d.stringAt, at)
			}
			return d.extraAt(&d.sub.Extra, at)
		}
		if err := d.take(collectorCost + len(name)); err != nil {
			return err
		}
		c, err := d.collector(at)
		s.Collectors[name] = c
		return err
	})
}

func (d *decoder) collector(path string) (Collector, error) {
	var c Collector
	err := d.fields(path, func(key string) error {
		at := join(path, key)
		switch key {
		case "tool_version":
			return d.set(&c.ToolVersion, d.stringAt, at)
		case "success":
			text, err := d.stringAt(at)
			c.Success = text == "true"
			return err
		case "outputs":
			if d.peek() == '{' {
				return d.outputs(&c, at)
			}
		}
		return d.extraAt(&d.sub.Extra, at)
	})
	return c, err
}

func (d *decoder) outputs(c *Collector, path string) error {
	return d.fields(path, func(key string) (err error) {
		at := join(path, key)
		switch key {
		case "payload":
			c.Payload, err = d.valueAt(d.opts.Limits.Value)
			return err
		case "stdout":
			c.Stdout, err = d.beginning()
			return err
		case "stderr":
			c.Stderr, err = d.beginning()
			return err
		case "return_code":
			text, err := d.stringAt(at)
			c.ReturnCode, _ = strconv.Atoi(text)
			return err
		}
		return d.extraAt(&d.sub.Extra, at)
	})
}

// outputHead is how much of what a collector printed is held; the rest is for CopyValue.
const outputHead = 64 << 10

// beginning reads a text of any length and keeps its beginning.
func (d *decoder) beginning() (string, error) {
	if d.peek() != '"' {
		return d.looseAt("")
	}
	keep := head{max: outputHead}
	err := d.str(false, func(chunk []byte) error {
		keep.add(chunk)
		return nil
	})
	if err != nil {
		return "", err
	}
	return string(keep.b), d.take(len(keep.b))
}

// fromCollectors fills typed fields that no job gave from what Checkbox collected by itself (7.1 and newer).
func (s *System) fromCollectors() {
	payload := func(name string, into any) bool {
		c, ok := s.Collectors[name]
		return ok && c.Success && c.Payload.JSON != nil && json.Unmarshal(c.Payload.JSON, into) == nil
	}
	var uname struct{ Kernel string }
	if s.Kernel == "" && payload("uname", &uname) {
		s.Kernel = uname.Kernel
	}
	var cmdline string
	if s.KernelCmdline == "" && payload("kernel_cmdline", &cmdline) {
		s.KernelCmdline = cmdline
	}
	var distribution map[string]string
	if s.Distribution == nil && payload("distribution", &distribution) {
		s.Distribution = distribution
	}
	var memory Memory
	if s.Memory == nil && payload("memory", &memory) {
		s.Memory = &memory
	}
	var packages []Package
	if s.Packages == nil && payload("debian_packages", &packages) {
		s.Packages = packages
	}
}
