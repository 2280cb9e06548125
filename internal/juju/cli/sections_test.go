package cli_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/juju"
)

// agentCreds is the secret that the transcripts' ctrl makes for its agents; tok is the one that a user added.
const (
	agentCreds = "g1a6hkg3kbj25ult13bg"
	tok        = "l18evcsjulua4ltbu9g0"
)

func setNextTask(n int) func(*juju.State) error {
	return func(s *juju.State) error {
		if n >= 0 && s.Operations[n] == nil && s.Tasks[n] == nil {
			s.Next.Task = n
		}
		return nil
	}
}

// must runs a line that has to succeed.
func (l *lab) must(line string) {
	_, stderr, code := l.shell(line)
	require.Zero(l.t, code, "%s\n%s", line, stderr)
}

// deployed is the transcripts' bundle, settled. worker/2 is the leader, as it happened to be.
func deployed(l *lab) {
	justDeployed(l)
	require.NoError(l.t, l.model.Update(func(s *juju.State) error {
		s.Applications["worker"].Leader = "worker/2"
		s.Applications["worker"].LeaseEnd = l.model.Now().AddDate(1, 0, 0)
		return nil
	}))
	l.keepStill()
	l.settled()
}

// justDeployed is the bundle before any agent has begun.
func justDeployed(l *lab) {
	l.keepStill("ctrl", "worker")
	l.must("juju deploy ./bundle.yaml --map-machines=existing")
}

// firstNames gives the faulty bundles the applications' names that they had at first.
func firstNames(l *lab) {
	for _, name := range []string{"bundle-badrel.yaml", "bundle-badopt.yaml", "bundle-badtype.yaml"} {
		path := filepath.Join(l.dir, name)
		data, err := os.ReadFile(path)
		require.NoError(l.t, err)
		text := strings.NewReplacer("ctrl2", "ctrl", "worker2", "worker").Replace(string(data))
		require.NoError(l.t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// refreshed is the bundle with both charms at the revisions that the transcripts had from 09:50 on.
func refreshed(l *lab) {
	deployed(l)
	l.must("juju refresh worker --path ./worker-v2.charm")
	l.must("juju refresh ctrl --path ./ctrl-v2.charm")
	l.settled()
	l.must("juju refresh worker --path ./worker-v2.charm")
	l.settled()
}

// withToken is the bundle with the user's secret tok, set as ctrl's option token.
func withToken(l *lab) {
	deployed(l)
	l.must("juju add-secret tok value=sesame")
	l.must("juju grant-secret tok ctrl")
	l.must("juju config ctrl token=secret:" + tok)
	l.settled()
}

// withSecrets adds the two secrets of ctrl's that the capture had left behind.
func withSecrets(l *lab) {
	withToken(l)
	l.must(`juju exec --unit ctrl/0 "secret-add --label doomed key-one=v1"`)
	l.must(`juju exec --unit ctrl/0 "secret-add --label other --owner unit key-one=v1"`)
}

// edit changes the state as no command can.
func (l *lab) edit(do func(s *juju.State)) {
	require.NoError(l.t, l.model.Update(func(s *juju.State) error {
		do(s)
		return nil
	}))
}

// control writes a file that steers the transcripts' charms: fail-HOOK or slow-HOOK on one machine.
func (l *lab) control(machine, file, text string) {
	require.NoError(l.t, os.WriteFile(filepath.Join(l.root, "log", machine, file), []byte(text+"\n"), 0o644))
}

// logged waits until a task has written n lines.
func (l *lab) logged(task, n int) {
	l.wait(func(s *juju.State) bool { return s.Tasks[task] != nil && len(s.Tasks[task].Log) >= n })
}

// failed waits until a unit's hook has failed at least that often and its agent has nothing more to do with it for now.
func (l *lab) failed(unit string, attempt int) {
	l.wait(func(s *juju.State) bool {
		u := s.Units[unit]
		return u.Failed != nil && u.Failed.Attempt >= attempt && u.Agent.Status != "executing"
	})
}

// shortOf lets the next action take n of its steps and no more, in no time; then what waits for it waits in a hurry.
func (l *lab) shortOf(n int) {
	l.hold()
	l.pass(n)
	l.clock.run(0)
	earlier := l.model.Snapshot().Tasks
	l.waiting.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		err := l.model.Wait(ctx, func(s *juju.State) bool {
			for id, task := range s.Tasks {
				if earlier[id] == nil && task.Status == juju.TaskRunning && len(task.Log) >= n {
					return true
				}
			}
			return false
		})
		if err != nil {
			l.t.Errorf("the action does not get to its step %d: %v", n, err)
		}
		l.clock.run(20)
	})
}

func (l *lab) plenty() {
	l.waiting.Wait()
	l.release()
	l.clock.run(1)
}

// setTask gives the next operation its number.
func setTask(n int) func(*juju.State) { return func(s *juju.State) { s.Next.Task = n } }

// at names steps of one file.
func at(file string, lines ...int) []string {
	steps := make([]string, len(lines))
	for i, line := range lines {
		steps[i] = fmt.Sprintf("%s:%d", file, line)
	}
	return steps
}

// withoutMachine4 is what the model was like after the unit on machine 4 was removed, with its machine.
func withoutMachine4(seed func(*lab)) func(*lab) {
	return func(l *lab) {
		seed(l)
		l.edit(func(s *juju.State) { delete(s.Machines, "4") })
	}
}

// lose stops a unit's agent and its machine's.
func (l *lab) lose(unit string) {
	l.stop(unit)
	l.edit(func(s *juju.State) {
		s.Machines[s.Units[unit].Machine].Agent.Status = "down"
		s.Machines[s.Units[unit].Machine].Agent.Message = "agent is not communicating with the server"
	})
}

// find brings both back.
func (l *lab) find(unit string) {
	l.start(unit)
	l.edit(func(s *juju.State) {
		s.Machines[s.Units[unit].Machine].Agent.Status = "started"
		s.Machines[s.Units[unit].Machine].Agent.Message = ""
	})
}

// rebooted brings back a unit whose machine has rebooted.
func (l *lab) rebooted(unit string) {
	l.edit(func(s *juju.State) { s.Units[unit].Uniter.BootID = "the boot before" })
	l.find(unit)
}

// wait waits for something to be so.
func (l *lab) wait(ok func(*juju.State) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	require.NoError(l.t, l.model.Wait(ctx, ok))
}

// late is the model as it was at the end of the transcripts: an application that does not go away, and four units that keep the
// machines. No agents run.
func late(l *lab) {
	l.keepStill("ctrl", "keep")
	l.must("juju deploy ./ctrl-v2.charm ctrl --to 0 --config title=frombundle")
	l.must("juju deploy ./worker.charm keep --to 0")
	l.must("juju add-unit keep -n 3 --to 1,2,3")
	l.edit(func(s *juju.State) {
		delete(s.Machines, "4")
		s.Machines["0"].Annotations = map[string]string{"rack": "r1"}
		clear(s.Relations) // ctrl has left its own already
		for name, u := range s.Units {
			if u.Application == "keep" {
				u.Workload = juju.Status{Status: "waiting", Message: "no controller related", Since: l.model.Now()}
				u.Agent, u.AgentVersion, u.WorkloadVersion = juju.Status{Status: "idle", Since: l.model.Now()}, "4.0.15", "2.1.0"
				s.Applications["keep"].Leader = "keep/0"
				continue
			}
			u.Workload, u.WorkloadVersion = juju.Status{Status: "terminated", Since: l.model.Now()}, "1.1.0"
			u.Agent = juju.Status{Status: "lost", Since: l.model.Now()}
			s.Applications["ctrl"].Leader = ""
			require.Equal(l.t, "ctrl/0", name)
		}
		s.Applications["ctrl"].Status = juju.Status{Status: "active", Message: "ctrl up", Since: l.model.Now()}
		rename := func(app string, revision int) {
			old := s.Charms[s.Applications[app].Charm]
			stored := old.WithRevision(revision)
			s.Charms[stored.URL] = stored
			s.Applications[app].Charm = stored.URL
		}
		rename("ctrl", 1)
		rename("keep", 3)
		s.Next.Charm["ctrl"], s.Next.Charm["worker"] = 2, 4
	})
}

// freshModel is the second model of the transcripts, with one machine.
func freshModel(l *lab) {
	l.edit(func(s *juju.State) {
		s.Model.Name = "lab2"
		m := s.Machines["0"]
		m.Hostname, m.Addresses, m.InstanceID = "m6", []string{"10.77.0.16"}, "manual:10.77.0.16"
		m.Interfaces[0].Addresses, m.Interfaces[0].MAC = []string{"10.77.0.16/24"}, "ba:3c:5a:51:fa:87"
		s.Machines = map[string]*juju.Machine{"0": m}
		s.Next.Charm["worker"] = 1
	})
}

// sections are what is replayed, each with what the lab was like before it.
var sections = []section{
	{name: "deploy", parts: []part{{file: "1-deploy.txt", to: 239}}, seed: firstNames, anyOrder: at("1-deploy.txt", 96, 103, 109, 115, 122, 128, 134)},
	{name: "deploy onto a lingering application", parts: []part{{file: "1-deploy.txt", from: 239, to: 334}}, seed: func(l *lab) { late(l); firstNames(l) }},
	{name: "deploy with errors", parts: []part{{file: "1-deploy.txt", from: 334}}, seed: late},

	{name: "status just deployed", parts: []part{{file: "2-status.txt", to: 98}}, seed: justDeployed},
	{name: "status", parts: []part{{file: "2-status.txt", from: 98, to: 865}}, seed: deployed, secrets: []string{agentCreds}},
	{name: "status while a unit goes", parts: []part{{file: "2-status.txt", from: 865, to: 990}}, seed: func(l *lab) {
		deployed(l)
		l.must("juju add-unit worker --to 4")
	}, before: map[string]func(*lab){"2-status.txt:906": func(l *lab) {
		l.control("4", "slow-stop", "3")
		l.hold()
		l.must("juju remove-unit worker/3 --no-prompt")
		l.wait(func(s *juju.State) bool { return s.Units["worker/3"].Agent.Message == "running stop hook" })
	}}, atOnce: at("2-status.txt", 906)},
	{name: "status in error", parts: []part{{file: "2-status.txt", from: 990, to: 1092}}, seed: func(l *lab) {
		withoutMachine4(refreshed)(l)
		l.control("1", "fail-config-changed", "1000")
		l.clock.run(0)
		l.must("juju config worker pool=f1")
		l.failed("worker/0", 1)
	}},
	{name: "status with a lost agent", parts: []part{{file: "2-status.txt", from: 1092, to: 1195}}, seed: func(l *lab) {
		withoutMachine4(refreshed)(l)
		l.must(`juju exec --unit ctrl/0 "status-set active ready"`)
		l.must(`juju exec --unit worker/0 "status-set blocked hidden"`)
		l.settled()
		l.lose("worker/2")
	}, before: map[string]func(*lab){
		"2-status.txt:1159": func(l *lab) { l.edit(func(s *juju.State) { s.Applications["worker"].Leader = "worker/1" }) },
		"2-status.txt:1177": func(l *lab) { l.find("worker/2") },
	}},
	{name: "status of a fresh model", parts: []part{{file: "2-status.txt", from: 1195}}, seed: freshModel},

	{name: "run", parts: []part{{file: "3-run.txt", to: 343}, {file: "3-run-params.txt"}, {file: "3-run-fail.txt"}, {file: "3-run-wait.txt"}}, seed: deployed,
		before: map[string]func(*lab){
			"3-run-wait.txt:28": func(l *lab) { l.shortOf(1) },
			"3-run-wait.txt:39": func(l *lab) { l.plenty() },
			"3-run-wait.txt:61": func(l *lab) {
				l.settled()
				l.shortOf(1)
			},
			"3-run-wait.txt:73": func(l *lab) { // that one goes on running
				l.waiting.Wait()
				l.clock.run(1)
			},
		},
		atOnce: at("3-run-wait.txt", 61, 73, 80, 87, 94), anyOrder: at("3-run-params.txt", 213, 228)},
	{name: "run on a lost unit", parts: []part{{file: "3-run.txt", from: 343}}, seed: func(l *lab) {
		deployed(l)
		l.stop("worker/2")
		l.clock.run(20)
	}},
	{name: "cancel pending tasks", parts: []part{{file: "3-run-cancel.txt", to: 147}}, seed: func(l *lab) {
		deployed(l)
		l.edit(setTask(124))
		l.stop("ctrl/0") // so that nothing begins for a while, as it happened
		l.edit(func(s *juju.State) { s.Units["ctrl/0"].Lost = false })
		l.must("juju run ctrl/0 slow seconds=14 --background")
		l.must("juju run ctrl/0 slow seconds=2 --background")
	}, before: map[string]func(*lab){
		"3-run-cancel.txt:88": func(l *lab) {
			l.edit(func(s *juju.State) { s.Units["ctrl/0"].Lost = true })
			l.hold()
			l.pass(8)
			l.start("ctrl/0")
			l.logged(125, 8)
		},
		"3-run-cancel.txt:124": func(l *lab) { l.release() },
		"3-run-cancel.txt:134": func(l *lab) {
			l.wait(func(s *juju.State) bool { return s.Tasks[127].Status.Final() })
			l.edit(setTask(128))
			l.must("juju run ctrl/0 slow seconds=6 --background")
		},
	}, atOnce: at("3-run-cancel.txt", 3, 8, 14, 18, 26, 30, 38, 44, 52, 58, 66, 74, 88, 106, 114, 118, 134)},
	{name: "cancel running tasks", parts: []part{{file: "3-run-cancel.txt", from: 147}}, seed: func(l *lab) {
		deployed(l)
		l.hold()
		l.pass(1)
		l.must("juju run ctrl/0 slow seconds=12 --background")
		l.must("juju run ctrl/0 slow seconds=2 --background")
		l.logged(1, 1)
	}, before: map[string]func(*lab){
		"3-run-cancel.txt:181": func(l *lab) {
			l.pass(1)
			l.logged(1, 2)
		},
		"3-run-cancel.txt:207": func(l *lab) {
			l.pass(4)
			l.logged(1, 6)
		},
		"3-run-cancel.txt:231": func(l *lab) { l.release() },
	}, atOnce: at("3-run-cancel.txt", 149, 153, 164, 169, 175, 181, 193, 207, 223)},

	{name: "config", parts: []part{{file: "4-config.txt"}}, seed: withToken, secrets: []string{agentCreds, tok}},
	{name: "databag", parts: []part{{file: "4-databag.txt"}}, seed: deployed},
	{name: "units", parts: []part{{file: "4-units.txt"}}, seed: func(l *lab) {
		deployed(l)
		l.keepStill("worker/3")
	}, before: map[string]func(*lab){"4-units.txt:24": func(l *lab) { l.keepStill() }}},
	{name: "refresh", parts: []part{{file: "4-refresh.txt"}}, seed: func(l *lab) {
		withoutMachine4(withToken)(l)
		l.must("juju config ctrl title=@cfg.yaml")
		l.must("juju config ctrl --reset count")
	}, secrets: []string{agentCreds, tok}},
	{name: "error", parts: []part{{file: "4-error.txt"}}, seed: func(l *lab) {
		refreshed(l)
		// A line that the capture had caused long before.
		l.edit(func(s *juju.State) {
			s.AppendLog(juju.LogLine{Time: l.model.Now(), Entity: "unit-worker-0", Level: "ERROR", Module: "juju.worker.uniter.context",
				Message: `cannot apply changes: revoking secrets access: "worker/0" is not allowed to manage this secret`})
		})
		l.control("1", "fail-config-changed", "3")
		l.clock.run(0) // the hook is not run again before its time has come
	}, secrets: []string{agentCreds}, before: map[string]func(*lab){
		"4-error.txt:4": func(l *lab) { l.failed("worker/0", 1) },
		"4-error.txt:45": func(l *lab) {
			l.clock.run(20)
			l.wait(func(s *juju.State) bool { return s.Units["worker/0"].Failed == nil })
			l.clock.run(0)
		},
		"4-error.txt:84": func(l *lab) { l.control("1", "fail-config-changed", "1000") },
		"4-error.txt:87": func(l *lab) { l.failed("worker/0", 1) },
		"4-error.txt:90": func(l *lab) { l.failed("worker/0", 2) },
	}},
	{name: "secret revisions", parts: []part{{file: "4-secret.txt"}}, seed: deployed, secrets: []string{agentCreds}},
	{name: "kill", parts: []part{{file: "4-kill.txt", to: 66}}, seed: func(l *lab) {
		withoutMachine4(refreshed)(l)
		l.must(`juju exec --unit ctrl/0 "status-set active ready"`)
		l.control("0", "slow-config-changed", "6")
		l.hold()
		l.clock.run(0)
	}, before: map[string]func(*lab){
		"4-kill.txt:5": func(l *lab) {
			l.wait(func(s *juju.State) bool { return s.Units["ctrl/0"].Agent.Message == "running config-changed hook" })
			l.lose("ctrl/0")
		},
		"4-kill.txt:19": func(l *lab) {
			l.find("ctrl/0")
			l.failed("ctrl/0", 0)
		},
		"4-kill.txt:33": func(l *lab) { l.failed("ctrl/0", 0) },
		"4-kill.txt:47": func(l *lab) {
			l.clock.run(20)
			l.release()
			l.wait(func(s *juju.State) bool { return s.Units["ctrl/0"].Failed == nil })
		},
	}, atOnce: at("4-kill.txt", 5, 33)},
	{name: "reboot", parts: []part{{file: "4-reboot.txt"}}, seed: func(l *lab) {
		withoutMachine4(refreshed)(l)
		l.must(`juju exec --unit ctrl/0 "status-set active ready"`)
		l.must(`juju exec --unit worker/0 "status-set blocked hidden"`)
		l.settled()
		l.lose("worker/1")
	}, before: map[string]func(*lab){
		"4-reboot.txt:16": func(l *lab) {
			l.control("2", "slow-start", "3")
			l.hold()
			l.rebooted("worker/1")
			l.wait(func(s *juju.State) bool { return s.Units["worker/1"].Agent.Message == "running start hook" })
		},
		"4-reboot.txt:30": func(l *lab) { l.release() },
		"4-reboot.txt:101": func(l *lab) {
			l.lose("ctrl/0")
			l.rebooted("ctrl/0")
		},
	}, atOnce: at("4-reboot.txt", 16)},
	{name: "remove applications", parts: []part{{file: "4-remove-app.txt", to: 101}, {file: "4-remove-app.txt", from: 204, to: 211}}, seed: withoutMachine4(refreshed)},

	{name: "exec", parts: []part{{file: "5-exec.txt"}}, seed: deployed, before: map[string]func(*lab){
		"5-exec.txt:89": func(l *lab) { l.shortOf(0) },
		"5-exec.txt:94": func(l *lab) { l.plenty() },
	}},
	{name: "show", parts: []part{{file: "5-show.txt"}}, seed: deployed, secrets: []string{agentCreds, tok}, before: map[string]func(*lab){
		"5-show.txt:640": func(l *lab) {
			for range 10 {
				l.must("juju exec --unit worker/0 true")
				l.settled()
			}
		},
		"5-show.txt:664": func(l *lab) {
			for range 2 {
				l.must("juju run ctrl/0 slow seconds=0")
				l.settled()
			}
		},
	}},

	{name: "action results", parts: []part{{file: "6-action-results.txt", to: 473}}, seed: func(l *lab) {
		deployed(l)
		l.clock.run(0.1) // 300 processes in an action that is given a minute
	}},
	{name: "action results kept", parts: []part{{file: "6-action-results.txt", from: 473}}, seed: refreshed, secrets: []string{agentCreds}},
	{name: "secrets", parts: []part{{file: "6-secrets.txt"}}, seed: withSecrets,
		secrets:  []string{agentCreds, tok, "2cclnui10kgqclcut0tg", "nvhcqht55l85forono8g", "2q2caerui59j8061ctg0", "s231qnfgsn1q2hdkpdjg", "752n1989jts5ang4i7dg", "gulm6d6d52l5kumeq38g"},
		anyOrder: at("6-secrets.txt", 49, 187, 217, 246, 256, 264, 274),
		before: map[string]func(*lab){"6-secrets.txt:240": func(l *lab) {
			for i := 2; i <= 4; i++ {
				l.must(fmt.Sprintf(`juju exec --unit ctrl/0 "secret-set %s password=pw-%d user=agent"`, agentCreds, i))
			}
		}}},
}

// unmatched are the commands that are passed over, with the reason. docs/reference/juju-differences.md tells users the same.
var unmatched = list(map[string][]int{
	"1-deploy.txt": {201, 232},
}, "diff-bundle and export-bundle are not in the lab: it deploys bundles and does not make them",
	map[string][]int{"2-status.txt": {886, 926, 946, 966, 986}}, "a moment between two hooks; and a removed unit is gone at once, where Juju shows it as terminated/lost for some seconds",
	map[string][]int{"2-status.txt": {1224, 1233}, "4-error.txt": {35}}, "Juju's status history comes seconds late, so that the transcript's lacks what had just happened; the lab's is complete",
	map[string][]int{"4-kill.txt": {66, 85, 93, 107, 121, 135, 149, 154}}, "lists every operation of the capture, which is in no transcript; the rest of the file repeats the same states",
	map[string][]int{"4-remove-app.txt": {101, 132, 137, 163, 189, 199, 211, 234, 251, 261, 266, 271, 293, 303, 309, 315, 318, 329, 334, 348, 362, 376, 390, 404, 418, 446, 457, 462, 470, 490, 508, 513, 522}}, "on 4.0.15 an application that owns secrets stays for minutes, with its machine and secrets; here they go with it, so that a lab can deploy the name again",
	map[string][]int{"5-exec.txt": {83}}, "exec on a machine is run by the lab's daemon, which this test has not",
	map[string][]int{"5-show.txt": {460, 475, 490, 493, 501}}, "the log of Juju's own workers; the lab logs what hooks print and how they end",
	map[string][]int{"5-show.txt": {507, 515, 519, 581, 586, 597, 688, 708, 721, 734, 747}}, "the lab has one model and no controller to list, switch to or destroy: `certlab lab down --destroy` removes it",
	map[string][]int{"6-action-results.txt": {437, 511, 520}}, "names the place of the hook tools, which is another in the test, and the length of that",
)

// list makes one table of pairs of steps and a reason.
func list(pairs ...any) map[string]string {
	table := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		for file, lines := range pairs[i].(map[string][]int) {
			for _, where := range at(file, lines...) {
				table[where] = pairs[i+1].(string)
			}
		}
	}
	return table
}
