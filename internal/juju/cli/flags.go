package cli

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A flagSet reads options as Juju's client does: GNU style, long options with two dashes, letters with one, options and
// arguments in any order, "--" ends the options. Its error texts are Juju's.
type flagSet struct {
	flags map[string]*option
	order []*option
}

// An option is one thing that can be set under one or more names.
type option struct {
	names []string
	usage string
	value string // the default as --help shows it
	bool  bool
	set   func(string) error
	given bool
}

func newFlagSet() *flagSet { return &flagSet{flags: map[string]*option{}} }

func (f *flagSet) add(o *option) *option {
	for _, name := range o.names {
		f.flags[name] = o
	}
	f.order = append(f.order, o)
	return o
}

// names is a list like "n,num-units".
func (f *flagSet) boolean(target *bool, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, bool: true, value: strconv.FormatBool(*target), set: func(s string) error {
		v, err := strconv.ParseBool(s)
		if err == nil {
			*target = v
		}
		return err
	}})
}

func (f *flagSet) str(target *string, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, value: strconv.Quote(*target), set: func(s string) error {
		*target = s
		return nil
	}})
}

func (f *flagSet) integer(target *int, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, value: strconv.Itoa(*target), set: func(s string) error {
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return err
		}
		*target = int(v)
		return nil
	}})
}

func (f *flagSet) duration(target *time.Duration, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, value: target.String(), set: func(s string) error {
		v, err := time.ParseDuration(s)
		if err == nil {
			*target = v
		}
		return err
	}})
}

// list is an option that may be repeated.
func (f *flagSet) list(target *[]string, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, set: func(s string) error {
		*target = append(*target, s)
		return nil
	}})
}

// commas is an option that takes several values with commas between them, and may be repeated.
func (f *flagSet) commas(target *[]string, names, usage string) *option {
	return f.add(&option{names: strings.Split(names, ","), usage: usage, set: func(s string) error {
		for _, part := range strings.Split(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*target = append(*target, part)
			}
		}
		return nil
	}})
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

var errHelp = errors.New("help requested")

// parse sets the options that args hold and returns the arguments. With anywhere false the first argument ends the options.
func (f *flagSet) parse(args []string, anywhere bool) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), nil
		case !strings.HasPrefix(arg, "-") || arg == "-":
			rest = append(rest, arg)
			if !anywhere {
				return append(rest, args...), nil
			}
		case strings.HasPrefix(arg, "--"):
			name, value, has := strings.Cut(arg[2:], "=")
			var err error
			if args, err = f.assign(name, value, has, args); err != nil {
				return nil, err
			}
		default:
			letters := arg[1:]
			for letters != "" {
				name := letters[:1]
				letters = letters[1:]
				o := f.flags[name]
				if o != nil && !o.bool && letters != "" {
					if err := f.apply(o, name, strings.TrimPrefix(letters, "=")); err != nil {
						return nil, err
					}
					break
				}
				var err error
				if args, err = f.assign(name, "", false, args); err != nil {
					return nil, err
				}
			}
		}
	}
	return rest, nil
}

func (f *flagSet) assign(name, value string, has bool, args []string) ([]string, error) {
	o := f.flags[name]
	if o == nil {
		if name == "help" || name == "h" {
			return nil, errHelp
		}
		return nil, fmt.Errorf("option provided but not defined: %s", dashed(name))
	}
	switch {
	case has:
	case o.bool:
		value = "true"
	case len(args) == 0:
		return nil, fmt.Errorf("option needs an argument: %s", dashed(name))
	default:
		value, args = args[0], args[1:]
	}
	return args, f.apply(o, name, value)
}

func (f *flagSet) apply(o *option, name, value string) error {
	if err := o.set(value); err != nil {
		return fmt.Errorf("invalid value %q for option %s: %v", value, dashed(name), err)
	}
	o.given = true
	return nil
}

// help lists the options as Juju does.
func (f *flagSet) help() string {
	lines := make([]string, 0, len(f.order))
	for _, o := range f.order {
		if o.usage == "" {
			continue
		}
		names := make([]string, 0, len(o.names))
		for _, n := range o.names {
			names = append(names, dashed(n))
		}
		gap := "  "
		if strings.HasPrefix(o.value, `"`) {
			gap = " " // as Juju prints options that take text
		}
		lines = append(lines, fmt.Sprintf("%s%s(= %s)\n    %s\n", strings.Join(names, ", "), gap, o.value, o.usage))
	}
	sort.Slice(lines, func(i, j int) bool {
		return strings.ToLower(strings.TrimLeft(lines[i], "-")) < strings.ToLower(strings.TrimLeft(lines[j], "-"))
	})
	return strings.Join(lines, "")
}
