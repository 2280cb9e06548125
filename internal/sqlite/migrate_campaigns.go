package sqlite

// campaignTables are schema version 5: campaigns, what was found in them and what was decided. Where a column is named data it holds the
// domain's type as JSON; the other columns are what rows are looked up by, and are written together with it.
const campaignTables = `
CREATE TABLE policies ( -- versions are never changed
	name    TEXT NOT NULL,
	version INTEGER NOT NULL,
	data    TEXT NOT NULL, -- JSON: cert.StoredPolicy
	PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE campaigns (
	seq      INTEGER PRIMARY KEY AUTOINCREMENT,
	id       TEXT NOT NULL UNIQUE,
	name     TEXT NOT NULL,
	kind     TEXT NOT NULL,
	state    TEXT NOT NULL,
	subject  TEXT NOT NULL, -- what it is a version of: series/source/flavour/stream and so on
	version  TEXT NOT NULL, -- of the subject
	priority INTEGER NOT NULL,
	created  INTEGER NOT NULL,
	changed  INTEGER NOT NULL, -- goes up with each change of it, its targets, findings and decisions
	data     TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX campaigns_name ON campaigns (name) WHERE state IN ('active', 'paused', 'deciding');
CREATE INDEX campaigns_open ON campaigns (state, priority DESC, seq) WHERE state IN ('active', 'paused', 'deciding');
CREATE INDEX campaigns_state ON campaigns (state, seq);
CREATE INDEX campaigns_subject ON campaigns (subject, seq);
CREATE INDEX campaigns_names ON campaigns (name, seq);

CREATE TABLE targets (
	id         TEXT PRIMARY KEY,
	campaign   TEXT NOT NULL REFERENCES campaigns (id),
	machine    TEXT NOT NULL REFERENCES machines (id), -- that is wanted
	plan       TEXT NOT NULL,
	state      TEXT NOT NULL,
	required   INTEGER NOT NULL,
	submission TEXT NOT NULL, -- id of the one that counts; empty: none
	compared   INTEGER NOT NULL, -- version of the rules by which it was compared; 0: not yet
	due        INTEGER, -- of the next step; null: none
	data       TEXT NOT NULL,
	UNIQUE (campaign, machine, plan)
) STRICT, WITHOUT ROWID;
CREATE INDEX targets_state ON targets (campaign, state, required);
CREATE INDEX targets_counted ON targets (campaign, submission) WHERE submission <> '';
CREATE INDEX targets_machine ON targets (machine);
CREATE INDEX targets_uncompared ON targets (state) WHERE state = 'comparing';
CREATE INDEX targets_unsettled ON targets (campaign, state) WHERE state IN ('waiting', 'queued', 'provisioning', 'running', 'comparing');
CREATE INDEX targets_due ON targets (campaign, due) WHERE due IS NOT NULL;

CREATE TABLE tries ( -- which run is for which target; stored before the run or its reservation is asked for
	run         TEXT PRIMARY KEY,
	reservation TEXT NOT NULL, -- empty: none
	target      TEXT NOT NULL REFERENCES targets (id),
	campaign    TEXT NOT NULL,
	number      INTEGER NOT NULL,
	machine     TEXT NOT NULL,
	purpose     TEXT NOT NULL,
	open        INTEGER NOT NULL,
	asked       INTEGER NOT NULL, -- its reservation or run is there for certain
	seen        TEXT NOT NULL, -- what it had come to when its target was last brought up to that
	reviewed   INTEGER NOT NULL DEFAULT 0, -- it is over, and what it means for its target was stored
	UNIQUE (target, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX tries_unreviewed ON tries (campaign, target) WHERE open = 0 AND reviewed = 0;
CREATE INDEX tries_open ON tries (campaign, target) WHERE open = 1;
CREATE INDEX tries_reservation ON tries (reservation) WHERE reservation <> '';
CREATE INDEX tries_machine ON tries (machine, open);

CREATE TABLE findings (
	id         TEXT PRIMARY KEY,
	campaign   TEXT NOT NULL REFERENCES campaigns (id),
	target     TEXT NOT NULL REFERENCES targets (id),
	machine    TEXT NOT NULL,
	class      TEXT NOT NULL,
	job        TEXT NOT NULL,
	signature  TEXT NOT NULL,
	blocker    INTEGER NOT NULL,
	new        INTEGER NOT NULL,
	attention  INTEGER NOT NULL,
	open       INTEGER NOT NULL, -- stands between the campaign and an approval
	excused    INTEGER NOT NULL, -- by a known issue
	waived     INTEGER NOT NULL, -- number of the decision; 0: none
	late       INTEGER NOT NULL, -- it came after the verdict
	rank       INTEGER NOT NULL, -- in lists: what needs a look, blockers, and what is new first
	issue      TEXT NOT NULL, -- id; empty: none
	submission TEXT NOT NULL,
	data       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX findings_target ON findings (target);
CREATE INDEX findings_list ON findings (campaign, rank, job, id);
CREATE INDEX findings_groups ON findings (campaign, attention, class, job, signature, blocker, new, open, issue, late, machine, id); -- all that grouping needs
CREATE INDEX findings_open ON findings (campaign, rank, job, id) WHERE open = 1;
CREATE INDEX findings_machine ON findings (machine, campaign) WHERE open = 1;
CREATE INDEX findings_issue ON findings (issue, campaign) WHERE issue <> '';
CREATE INDEX findings_waived ON findings (waived) WHERE waived > 0;

CREATE TABLE campaign_events ( -- append only
	seq      INTEGER PRIMARY KEY AUTOINCREMENT,
	campaign TEXT NOT NULL,
	at       INTEGER NOT NULL,
	kind     TEXT NOT NULL,
	who      TEXT NOT NULL,
	text     TEXT NOT NULL,
	target   TEXT NOT NULL,
	version  INTEGER NOT NULL DEFAULT 0 -- of the campaign, from then on
) STRICT;
CREATE INDEX campaign_events_campaign ON campaign_events (campaign, seq);
CREATE INDEX campaign_events_version ON campaign_events (campaign, version);
CREATE TRIGGER campaign_events_stay BEFORE UPDATE ON campaign_events BEGIN SELECT raise(ABORT, 'the log of campaigns only grows'); END;
CREATE TRIGGER campaign_events_remain BEFORE DELETE ON campaign_events BEGIN SELECT raise(ABORT, 'the log of campaigns only grows'); END;

CREATE TABLE decisions ( -- append only; each entry's hash covers the one before it
	seq      INTEGER PRIMARY KEY,
	campaign TEXT NOT NULL,
	machine  TEXT NOT NULL, -- empty: the campaign, or findings
	action   TEXT NOT NULL,
	at       INTEGER NOT NULL,
	until    INTEGER, -- of a waiver
	hash     TEXT NOT NULL UNIQUE,
	data     TEXT NOT NULL -- JSON: cert.Decision, byte for byte as it was hashed, with its hash
) STRICT;
CREATE INDEX decisions_campaign ON decisions (campaign, seq);
CREATE INDEX decisions_until ON decisions (until) WHERE until IS NOT NULL;
CREATE TRIGGER decisions_stay BEFORE UPDATE ON decisions BEGIN SELECT raise(ABORT, 'the log of decisions only grows'); END;
CREATE TRIGGER decisions_remain BEFORE DELETE ON decisions BEGIN SELECT raise(ABORT, 'the log of decisions only grows'); END;

CREATE TABLE verdicts ( -- never changed
	campaign TEXT PRIMARY KEY,
	outcome  TEXT NOT NULL,
	at       INTEGER NOT NULL,
	digest   TEXT NOT NULL,
	data     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER verdicts_stay BEFORE UPDATE ON verdicts BEGIN SELECT raise(ABORT, 'a verdict is never changed'); END;
CREATE TRIGGER verdicts_remain BEFORE DELETE ON verdicts BEGIN SELECT raise(ABORT, 'a verdict is never changed'); END;

CREATE TABLE issues ( -- each version of a known issue; the highest is in force
	id      TEXT NOT NULL,
	version INTEGER NOT NULL,
	job     TEXT NOT NULL, -- pattern
	active  INTEGER NOT NULL, -- the highest version, neither closed nor run out when it was stored
	expires INTEGER,
	data    TEXT NOT NULL,
	PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX issues_active ON issues (active, id);

CREATE TABLE logs ( -- the parts of logs that are kept where a person or a rule reads them, once each
	id        INTEGER PRIMARY KEY,
	hash      TEXT NOT NULL UNIQUE, -- SHA-256 of text
	signature TEXT NOT NULL, -- of what is alike in logs that are alike
	text      TEXT NOT NULL
) STRICT;
CREATE INDEX logs_signature ON logs (signature);

CREATE TABLE failures ( -- results that failed or crashed, or whose pass is doubted; those that rules on results look at
	submission INTEGER NOT NULL REFERENCES submissions (seq) ON DELETE CASCADE,
	idx        INTEGER NOT NULL,
	job        INTEGER NOT NULL REFERENCES jobs (id),
	outcome    TEXT NOT NULL, -- fail, crash, machine-lost, false-pass, or another that is no pass and no skip
	doubt      TEXT NOT NULL, -- rule by which a pass is doubted; empty: none
	log        INTEGER REFERENCES logs (id), -- null: it had none
	PRIMARY KEY (submission, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX failures_job ON failures (job, submission, outcome, log); -- all that a preview needs
CREATE INDEX failures_log ON failures (log, submission);

CREATE TABLE kernel_news ( -- what the kernel team's status has named
	subject TEXT NOT NULL,
	version TEXT NOT NULL,
	seen    INTEGER NOT NULL,
	data    TEXT NOT NULL, -- JSON: cert.KernelNews
	PRIMARY KEY (subject, version)
) STRICT, WITHOUT ROWID;

ALTER TABLE attempts ADD COLUMN subject TEXT NOT NULL DEFAULT ''; -- JSON: order.SubjectState; empty: none
ALTER TABLE submissions ADD COLUMN facts TEXT NOT NULL DEFAULT ''; -- JSON: SideFacts, what comparing needs of system and of the lab
ALTER TABLE submissions ADD COLUMN series TEXT NOT NULL DEFAULT ''; -- codename of its release, as it says
ALTER TABLE submissions ADD COLUMN kernel TEXT NOT NULL DEFAULT ''; -- uname -r, as it says
CREATE INDEX submissions_kernel ON submissions (kernel, seq);
`
