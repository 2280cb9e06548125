// Command table prints what the benchmarks have reported as one table, headed by machine and date, and writes it to build/bench.md. It
// exits with 1 if a goal is not met that docs/reference/measurements.md does not list with its reason.
//
// With -write it puts the figures of the last run into the documents that quote them, instead.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"certlab/internal/durable"
	"certlab/tests/bench/report"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "table: %v\n", err)
		os.Exit(1)
	}
}

// made says where and when figures were measured.
type made struct {
	Machine string    `json:"machine"`
	At      time.Time `json:"at"`
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	rowsFile := flags.String("rows", "build/bench/rows.jsonl", "what the benchmarks have reported")
	markdown := flags.String("out", "build/bench.md", "where to write the table")
	document := flags.String("known", "docs/reference/measurements.md", "the document that lists the goals that are not met")
	write := flags.Bool("write", false, "put the figures into these documents, between their marks")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows, err := report.Read(*rowsFile)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errors.New("nothing was measured (run make bench)")
	}
	text, err := os.ReadFile(*document)
	if err != nil {
		return err
	}
	known := report.ReadKnown(string(text))
	heading, err := headingOf(*rowsFile + ".made")
	if err != nil {
		return err
	}
	if *write {
		return quote(flags.Args(), heading, rows, known)
	}
	page := heading + "\n\n" + report.Table(rows, known)
	if err := os.WriteFile(*markdown, []byte(page), 0o644); err != nil {
		return fmt.Errorf("cannot write the table: %w", err)
	}
	fmt.Fprint(out, page)
	if unmet := report.Unmet(rows, known); len(unmet) > 0 {
		return fmt.Errorf("%d goals are not met, the first: %s (say why in %s, below \"Goals that are not met\")", len(unmet), unmet[0].Name(), *document)
	}
	return nil
}

// headingOf says where and when the rows were measured, and remembers it beside them: a document may quote them later, elsewhere.
func headingOf(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		text, err = json.Marshal(made{report.Machine("."), time.Now()})
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("cannot write where the figures were measured: %w", err)
		}
	}
	var m made
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("cannot read where the figures were measured: %w", err)
	}
	return report.Heading(m.Machine, m.At), nil
}

func quote(documents []string, heading string, rows []report.Row, known report.Known) error {
	if len(documents) == 0 {
		return errors.New("name the documents to write")
	}
	for _, path := range documents {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(old)
		for mark, table := range map[string]func([]report.Row, report.Known) string{report.TableMark: report.Table, report.ExcerptMark: report.Excerpt} {
			if !report.Quotes(text, mark) {
				continue
			}
			if text, err = report.Quote(text, mark, heading+"\n\n"+table(rows, known)); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if text == string(old) {
			return fmt.Errorf("%s quotes no figures, or the same ones", path)
		}
		if err := durable.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
