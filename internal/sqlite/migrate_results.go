package sqlite

// normalResults keeps what describes a job once, instead of with each of its results: ten million results take an eighth of the room, in
// the database, in memory and in every backup. And it adds the indexes that lists with filters walk, each in the list's order.
const normalResults = `
CREATE TABLE jobs ( -- jobs as submissions describe them: a row for each description, which is never changed
	id          INTEGER PRIMARY KEY,
	section     TEXT NOT NULL, -- results, resources or attachments
	job         TEXT NOT NULL, -- full id
	name        TEXT NOT NULL,
	status      TEXT NOT NULL, -- certification status
	category    TEXT NOT NULL,
	plugin      TEXT NOT NULL,
	template_id TEXT NOT NULL,
	UNIQUE (job, section, name, status, category, plugin, template_id)
) STRICT;
INSERT INTO jobs (section, job, name, status, category, plugin, template_id)
	SELECT DISTINCT section, job, name, status, category, plugin, template_id FROM results;

CREATE TABLE normal_results (
	submission  INTEGER NOT NULL REFERENCES submissions (seq) ON DELETE CASCADE,
	idx         INTEGER NOT NULL,
	job         INTEGER NOT NULL REFERENCES jobs (id),
	outcome     TEXT NOT NULL,
	duration    REAL NOT NULL, -- seconds
	comments    TEXT NOT NULL,
	skip_reason TEXT NOT NULL,
	log_size    INTEGER NOT NULL, -- bytes
	PRIMARY KEY (submission, idx)
) STRICT, WITHOUT ROWID;
INSERT INTO normal_results (submission, idx, job, outcome, duration, comments, skip_reason, log_size)
	SELECT r.submission, r.idx, j.id, r.outcome, r.duration, r.comments, r.skip_reason, r.log_size FROM results r JOIN jobs j ON j.job = r.job
	AND j.section = r.section AND j.name = r.name AND j.status = r.status AND j.category = r.category AND j.plugin = r.plugin
	AND j.template_id = r.template_id ORDER BY r.submission, r.idx;
DROP TABLE results;
ALTER TABLE normal_results RENAME TO results;
CREATE INDEX results_job ON results (job, submission, idx, outcome);
CREATE INDEX results_outcome ON results (outcome, submission, idx, job) WHERE outcome <> 'pass';

CREATE INDEX runs_state ON runs (state, seq);
CREATE INDEX runs_plan ON runs (plan, seq);
CREATE INDEX runs_origin ON runs (origin, seq);
CREATE INDEX submissions_plan ON submissions (plan, seq);
DROP INDEX submissions_pending;
CREATE INDEX submissions_state ON submissions (index_state, seq);
CREATE INDEX submissions_received ON submissions (received, seq);
CREATE INDEX machines_system_id ON machines (system_id);
`
