package cert

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Columns of a dossier's CSV. Those with a colon are one for each ability, manifest entry and variable.
const (
	machineColumn     = "machine"
	secureIDColumn    = "secure_id"
	abilityColumn     = "ability:"
	manifestColumn    = "manifest:"
	environmentColumn = "env:"
)

// plainColumns are the others, in the order in which they are written.
var plainColumns = []string{"cid", "rack", "position", "contact", "notes", "shared"}

// Bounds of an import. Each cell is kept until all are known to be right.
const (
	MaxDossierLines = 10000
	maxDossierCells = 1_000_000
)

// A DossierRow is one line of an import: what it says of a machine.
type DossierRow struct {
	Line     int               // in the file, from 1
	Machine  string            // id, system_id, hostname or certification id, as written
	Cells    map[string]string // by column; a column that the file does not have is not in it
	SecureID string            // empty: as it was
}

// ReadDossierCSV reads an import. The first line names the columns, of which machine is one; a column that is missing leaves what it
// is about as it is, and an empty cell takes it away (but for secure_id, which an export does not have). It fails as Invalid, with the
// line.
func ReadDossierCSV(in io.Reader) ([]DossierRow, error) {
	text := bufio.NewReader(in)
	if mark, err := text.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = text.Discard(3) // what spreadsheets put before it
	}
	r := csv.NewReader(text)
	r.ReuseRecord = true
	header, err := r.Read()
	if err == io.EOF {
		return nil, Errorf(Invalid, "cannot import dossiers: the file is empty (the first line names the columns)")
	} else if err != nil {
		return nil, csvError(err)
	}
	columns := slices.Clone(header)
	if err := checkColumns(columns); err != nil {
		return nil, err
	}
	var rows []DossierRow
	lines := map[string]int{}
	for {
		record, err := r.Read()
		if err == io.EOF {
			return rows, nil
		} else if err != nil {
			return nil, csvError(err)
		}
		line, _ := r.FieldPos(0)
		if len(rows) == MaxDossierLines {
			return nil, Errorf(Invalid, "cannot import dossiers: there are more than %d lines (import them in parts)", MaxDossierLines)
		}
		if (len(rows)+1)*len(columns) > maxDossierCells {
			return nil, Errorf(Invalid, "cannot import dossiers: there are more than %d cells (import them in parts)", maxDossierCells)
		}
		row, err := readRow(line, columns, record)
		if err != nil {
			return nil, err
		}
		if first, twice := lines[strings.ToLower(row.Machine)]; twice {
			return nil, Errorf(Invalid, "cannot import dossiers: lines %d and %d are both about %s (leave one of them)", first, line, cut(row.Machine))
		}
		lines[strings.ToLower(row.Machine)] = line
		rows = append(rows, row)
	}
}

func csvError(err error) error {
	var where *csv.ParseError
	if errors.As(err, &where) {
		if errors.Is(where.Err, csv.ErrFieldCount) {
			return Errorf(Invalid, "cannot import dossiers: line %d has another number of cells than the first line has columns", where.Line)
		}
		return Errorf(Invalid, "cannot import dossiers: line %d is no CSV: %v", where.Line, where.Err)
	}
	return err
}

func checkColumns(columns []string) error {
	seen := map[string]bool{}
	for n, name := range columns {
		columns[n] = strings.TrimSpace(name)
		name = columns[n]
		if err := CheckDossierField(name); err != nil && name != machineColumn && name != secureIDColumn {
			return Errorf(Invalid, "cannot import dossiers: %v", err)
		}
		if seen[name] {
			return Errorf(Invalid, "cannot import dossiers: the column %s is there twice", cut(name))
		}
		seen[name] = true
	}
	if !seen[machineColumn] {
		return Errorf(Invalid, "cannot import dossiers: there is no column machine, which says what a line is about")
	}
	return nil
}

// CheckDossierField fails if a dossier has no field of that name, which is that of a column.
func CheckDossierField(name string) error {
	for _, prefix := range []string{abilityColumn, manifestColumn, environmentColumn} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return nil
		}
	}
	if slices.Contains(plainColumns, name) {
		return nil
	}
	hint := ""
	if strings.Contains(name, ";") {
		hint = "; cells are separated by commas"
	} else if near := nearest(name, append(slices.Clone(plainColumns), machineColumn, secureIDColumn)); near != "" && near != name {
		hint = "; did you mean " + near + "?"
	}
	return Errorf(Invalid, "there is no column %q (there are: %s, %s, %s, ability:NAME, manifest:ID, env:NAME%s)", cut(name),
		machineColumn, strings.Join(plainColumns, ", "), secureIDColumn, hint)
}

func readRow(line int, columns, record []string) (DossierRow, error) {
	row := DossierRow{Line: line, Cells: make(map[string]string, len(columns))}
	for n, name := range columns {
		cell := strings.TrimSpace(record[n])
		switch name {
		case machineColumn:
			row.Machine = cell
		case secureIDColumn:
			row.SecureID = cell
		default:
			row.Cells[name] = cell
		}
	}
	if row.Machine == "" {
		return row, Errorf(Invalid, "cannot import dossiers: line %d names no machine", line)
	}
	if len(row.Machine) > maxDossierLine || !printable(row.Machine, false) {
		return row, Errorf(Invalid, "cannot import dossiers: line %d: %q is no machine's name", line, cut(row.Machine))
	}
	if err := ValidateSecureID(row.SecureID); err != nil {
		return row, Errorf(Invalid, "cannot import dossiers: line %d: %v", line, err)
	}
	return row, nil
}

// Apply returns the dossier as the line wants it. It fails as Invalid, with the line.
func (row DossierRow) Apply(d Dossier) (Dossier, error) {
	d.Abilities, d.Manifest, d.Environment = maps.Clone(there(d.Abilities)), maps.Clone(there(d.Manifest)), maps.Clone(there(d.Environment))
	for _, name := range slices.Sorted(maps.Keys(row.Cells)) {
		if err := d.set(name, row.Cells[name]); err != nil {
			return d, Errorf(Invalid, "cannot import dossiers: line %d (%s): %v", row.Line, cut(row.Machine), err)
		}
	}
	d = d.Tidy()
	if err := d.Validate(); err != nil {
		return d, Errorf(Invalid, "cannot import dossiers: line %d (%s): %v", row.Line, cut(row.Machine), err)
	}
	return d, nil
}

// set gives one field its value; an empty one takes it away.
func (d *Dossier) set(column, value string) error {
	if name, ok := strings.CutPrefix(column, abilityColumn); ok {
		if value == "" {
			delete(d.Abilities, name)
			return nil
		}
		can, err := yesOrNo(value)
		d.Abilities[name] = can
		if err != nil {
			return fmt.Errorf("%s is %q: it must be true, false or empty", cut(column), cut(value))
		}
		return nil
	}
	for prefix, in := range map[string]map[string]string{manifestColumn: d.Manifest, environmentColumn: d.Environment} {
		if name, ok := strings.CutPrefix(column, prefix); ok {
			if in[name] = value; value == "" {
				delete(in, name)
			}
			return nil
		}
	}
	switch column {
	case "cid":
		d.CID = value
	case "rack":
		d.Rack = value
	case "position":
		d.Position = value
	case "contact":
		d.Contact = value
	case "notes":
		d.Notes = value
	case "shared":
		d.Shared = strings.Fields(value)
	}
	return nil
}

// yesOrNo takes what spreadsheets make of true and false too.
func yesOrNo(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "yes", "y":
		return true, nil
	case "no", "n":
		return false, nil
	}
	return strconv.ParseBool(strings.ToLower(value))
}

// WriteDossierCSV writes dossiers so that ReadDossierCSV finds nothing to change in them. Secure ids are not in it.
func WriteDossierCSV(out io.Writer, dossiers []Dossier) error {
	more := map[string]bool{}
	all := make([]map[string]string, len(dossiers))
	names := map[string]int{}
	for n, d := range dossiers {
		all[n] = d.Fields()
		names[strings.ToLower(d.Hostname)]++
		for name := range all[n] {
			if !slices.Contains(plainColumns, name) {
				more[name] = true
			}
		}
	}
	columns := append(slices.Clone(plainColumns), slices.Sorted(maps.Keys(more))...)
	w := csv.NewWriter(out)
	if err := w.Write(append([]string{machineColumn}, columns...)); err != nil {
		return err
	}
	for n, d := range dossiers {
		record := []string{d.Hostname}
		if d.Hostname == "" || names[strings.ToLower(d.Hostname)] > 1 {
			record[0] = d.Machine
		}
		for _, name := range columns {
			record = append(record, all[n][name])
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}
