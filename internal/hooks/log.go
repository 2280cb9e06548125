package hooks

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	logBatch   = 48 << 10        // bytes in one juju-log; the kernel allows 128 KiB in one argument
	logTotal   = 1 << 20         // bytes in one dispatch; what is beyond is counted and dropped
	logDelay   = 2 * time.Second // how long a line may wait while tools are being called
	logLineMax = 16 << 10        // bytes
)

// logSink collects lines and sends them with as few juju-log as it can: consecutive lines of one level go together. It is safe
// for concurrent use.
type logSink struct {
	mu      sync.Mutex
	run     func(context.Context, Command) ([]byte, error)
	mask    *mask
	stderr  io.Writer
	now     func() time.Time
	lines   []logLine
	size    int       // of lines
	total   int       // of the dispatch
	dropped int       // lines
	oldest  time.Time // when the first of lines came
}

type logLine struct {
	level string
	text  string
}

func (s *logSink) add(ctx context.Context, level, text string) {
	text = oneArgument(s.mask.hide(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total += len(text); s.total > logTotal {
		s.dropped++
		return
	}
	if len(s.lines) == 0 {
		s.oldest = s.now()
	}
	s.lines = append(s.lines, logLine{level, text})
	if s.size += len(text); s.size > logBatch/2 {
		s.send(ctx)
	}
}

// flush sends what waits; with stale, only if it has waited for a while.
func (s *logSink) flush(ctx context.Context, stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stale && (len(s.lines) == 0 || s.now().Sub(s.oldest) < logDelay) {
		return
	}
	s.send(ctx)
}

func (s *logSink) finish(ctx context.Context) {
	s.mu.Lock()
	if s.dropped > 0 {
		s.lines = append(s.lines, logLine{"WARNING", fmt.Sprintf("%d log lines were dropped: a dispatch logs at most %d bytes", s.dropped, logTotal)})
		s.dropped = 0
	}
	s.mu.Unlock()
	s.flush(ctx, false)
}

func (s *logSink) send(ctx context.Context) {
	for i := 0; i < len(s.lines); {
		level, size := s.lines[i].level, 0
		var texts []string
		for ; i < len(s.lines) && s.lines[i].level == level && (size == 0 || size+len(s.lines[i].text) < logBatch); i++ {
			texts = append(texts, s.lines[i].text)
			size += len(s.lines[i].text) + 1
		}
		text := strings.Join(texts, "\n")
		if _, err := s.run(ctx, Command{Name: "juju-log", Args: []string{"-l", level, "--", text}}); err != nil {
			// The agent logs what a hook prints.
			fmt.Fprintf(s.stderr, "%s %s\n", level, text)
		}
	}
	s.lines, s.size = nil, 0
}

// oneArgument makes a text fit for an argument: no NUL, not too long.
func oneArgument(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > logLineMax {
		text = strings.ToValidUTF8(text[:logLineMax], "") + "…"
	}
	return text
}

// logHandler writes records as "message key=value …".
type logHandler struct {
	sink  *logSink
	attrs string // formatted, each with a space before it
	group string // prefix of keys
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	text.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&text, h.group, a)
		return true
	})
	level := "ERROR"
	switch {
	case r.Level < slog.LevelInfo:
		level = "DEBUG"
	case r.Level < slog.LevelWarn:
		level = "INFO"
	case r.Level < slog.LevelError:
		level = "WARNING"
	}
	h.sink.add(ctx, level, text.String())
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var text strings.Builder
	text.WriteString(h.attrs)
	for _, a := range attrs {
		writeAttr(&text, h.group, a)
	}
	return &logHandler{sink: h.sink, attrs: text.String(), group: h.group}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{sink: h.sink, attrs: h.attrs, group: h.group + name + "."}
}

func writeAttr(text *strings.Builder, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, each := range value.Group() {
			writeAttr(text, group, each)
		}
		return
	}
	shown := value.String()
	if shown == "" || strings.ContainsAny(shown, " =\"\n\t") {
		shown = strconv.Quote(shown)
	}
	fmt.Fprintf(text, " %s%s=%s", group, a.Key, shown)
}

// Flush sends the log lines that wait. Call it before something that may not return.
func (u *Unit) Flush(ctx context.Context) { u.sink.flush(ctx, false) }
