package hooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
)

// A Field is one field of a struct that options or parameters are decoded into.
type Field struct {
	Name string // the option's or parameter's
	// Type is the name that charmcraft.yaml gives it: string, int (for parameters: integer), float (number), boolean or secret.
	Type     string
	Optional bool // the field is a pointer, nil when there is no value
}

// ConfigFields returns the options that the struct, or pointer to one, asks for. It fails where the struct cannot be used with
// Unit.Config. Tests compare it with charmcraft.yaml.
func ConfigFields(target any) ([]Field, error) { return fields(target, "config") }

// ParamFields does the same for ActionCall.Params.
func ParamFields(target any) ([]Field, error) { return fields(target, "param") }

var secretIDType = reflect.TypeFor[SecretID]()

func fields(target any, tag string) ([]Field, error) {
	t := reflect.TypeOf(target)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("cannot decode into %T: want a struct with %s tags", target, tag)
	}
	var all []Field
	seen := make(map[string]bool)
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get(tag)
		if name == "" || !f.IsExported() {
			return nil, fmt.Errorf("cannot decode into %s: field %s has no %s tag, or is not exported", t, f.Name, tag)
		}
		if seen[name] {
			return nil, fmt.Errorf("cannot decode into %s: two fields for %q", t, name)
		}
		seen[name] = true
		kind, optional := f.Type, false
		if kind.Kind() == reflect.Pointer {
			kind, optional = kind.Elem(), true
		}
		field := Field{Name: name, Optional: optional}
		switch {
		case kind == secretIDType:
			field.Type = "secret"
		case kind.Kind() == reflect.String:
			field.Type = "string"
		case kind.Kind() == reflect.Int || kind.Kind() == reflect.Int64:
			field.Type = "int"
		case kind.Kind() == reflect.Float64:
			field.Type = "float"
		case kind.Kind() == reflect.Bool:
			field.Type = "boolean"
		default:
			return nil, fmt.Errorf("cannot decode into %s: field %s is a %s; use string, int, int64, float64, bool or SecretID", t, f.Name, kind)
		}
		if tag == "param" {
			switch field.Type {
			case "int":
				field.Type = "integer"
			case "float":
				field.Type = "number"
			case "secret":
				field.Type = "string"
			}
		}
		all = append(all, field)
	}
	return all, nil
}

// decodeFields sets the fields of *target from values. Each value needs a field. A field needs a value if complete; null, or no
// value, leaves the zero value. noun names what the values are in errors.
func decodeFields(values map[string]json.RawMessage, target any, tag, noun string, complete bool) error {
	all, err := fields(target, tag)
	if err != nil {
		return err
	}
	pointer := reflect.ValueOf(target)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fmt.Errorf("cannot decode into %T: want a pointer to a struct", target)
	}
	unknown := make(map[string]bool, len(values))
	for name := range values {
		unknown[name] = true
	}
	var problems []error
	for i, field := range all {
		into := pointer.Elem().Field(i)
		into.SetZero()
		delete(unknown, field.Name)
		raw, there := values[field.Name]
		if !there && complete {
			problems = append(problems, fmt.Errorf("cannot read %s %q: Juju does not know it", noun, field.Name))
			continue
		}
		if !there || string(raw) == "null" {
			continue
		}
		if field.Optional {
			into.Set(reflect.New(into.Type().Elem()))
			into = into.Elem()
		}
		if err := decodeScalar(raw, into); err != nil {
			problems = append(problems, fmt.Errorf("cannot read %s %q: %w", noun, field.Name, err))
		}
	}
	for _, name := range sortedKeys(unknown) {
		problems = append(problems, fmt.Errorf("cannot read %s %q: the charm does not know it", noun, name))
	}
	return errors.Join(problems...)
}

// decodeScalar does not show the value in errors: it may be one that was meant for a secret.
func decodeScalar(raw json.RawMessage, into reflect.Value) error {
	switch into.Kind() {
	case reflect.String:
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return errors.New("not a string")
		}
		into.SetString(text)
	case reflect.Bool:
		var b bool
		if json.Unmarshal(raw, &b) != nil {
			return errors.New("not a boolean")
		}
		into.SetBool(b)
	case reflect.Float64:
		var f float64
		if json.Unmarshal(raw, &f) != nil {
			return errors.New("not a number")
		}
		into.SetFloat(f)
	default:
		n, err := integer(raw)
		if err != nil {
			return err
		}
		if into.OverflowInt(n) {
			return errors.New("out of range")
		}
		into.SetInt(n)
	}
	return nil
}

// integer reads a whole number, also where it is written as 3.0 or 3e+11: numbers pass through floats on their way.
func integer(raw json.RawMessage) (int64, error) {
	var number json.Number
	if len(raw) == 0 || raw[0] == '"' || json.Unmarshal(raw, &number) != nil {
		return 0, errors.New("not an integer")
	}
	if n, err := strconv.ParseInt(number.String(), 10, 64); err == nil {
		return n, nil
	}
	const exact = 1 << 53 // above it a float skips integers
	f, err := number.Float64()
	if err != nil || f != math.Trunc(f) {
		return 0, errors.New("not an integer")
	}
	if math.Abs(f) > exact {
		return 0, errors.New("out of range")
	}
	return int64(f), nil
}
