package hookstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tree tells, in lines, what is below a directory: directories, links, and files with their modes. Of those files whose names are in show it
// tells the content too, with dir's own name left out. Sockets and what skip names, by base names, are not told.
func Tree(t testing.TB, dir string, show, skip []string) []string {
	t.Helper()
	var lines []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := entry.Info()
		switch {
		case err != nil:
			return err
		case slices.Contains(skip, entry.Name()) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(skip, entry.Name()), info.Mode().Type() == fs.ModeSocket:
			return nil
		}
		line := fmt.Sprintf("%v %s", info.Mode(), rel)
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case slices.Contains(show, entry.Name()):
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += "\n" + string(data)
		}
		lines = append(lines, strings.ReplaceAll(line, dir, ""))
		return nil
	}))
	return lines
}
