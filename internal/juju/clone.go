package juju

import (
	"reflect"
	"sync"
	"time"
)

// Clone copies the state: a change of either leaves the other alone. Charms, which never change, are shared.
func (s *State) Clone() *State { return clone(s) }

// clone copies a state so deeply that changing the copy leaves the original alone. Charms are shared: they never change.
func clone(s *State) *State {
	var c cloner
	return c.value(reflect.ValueOf(s)).Interface().(*State)
}

type cloner struct{}

// flat remembers which types hold no reference that a copy would share.
var flat sync.Map // reflect.Type → bool

func isFlat(t reflect.Type) bool {
	if known, ok := flat.Load(t); ok {
		return known.(bool)
	}
	is := false
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Chan, reflect.Func:
	case reflect.Struct:
		is = true
		if t == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range t.NumField() {
			is = is && isFlat(t.Field(i).Type)
		}
	case reflect.Array:
		is = isFlat(t.Elem())
	default:
		is = true
	}
	flat.Store(t, is)
	return is
}

func (c cloner) value(v reflect.Value) reflect.Value {
	t := v.Type()
	if isFlat(t) || t == reflect.TypeFor[*Charm]() {
		return v
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		copied := reflect.New(t.Elem())
		copied.Elem().Set(c.value(v.Elem()))
		return copied
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		copied := reflect.New(t).Elem()
		copied.Set(c.value(v.Elem()))
		return copied
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		copied := reflect.MakeMapWithSize(t, v.Len())
		for it := v.MapRange(); it.Next(); {
			copied.SetMapIndex(it.Key(), c.value(it.Value()))
		}
		return copied
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		copied := reflect.MakeSlice(t, v.Len(), v.Len())
		if isFlat(t.Elem()) {
			reflect.Copy(copied, v)
			return copied
		}
		for i := range v.Len() {
			copied.Index(i).Set(c.value(v.Index(i)))
		}
		return copied
	case reflect.Struct:
		copied := reflect.New(t).Elem()
		copied.Set(v)
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				copied.Field(i).Set(c.value(v.Field(i)))
			}
		}
		return copied
	}
	panic("juju: state holds a " + t.String() + ", which cannot be copied")
}
