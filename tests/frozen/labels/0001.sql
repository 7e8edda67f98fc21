BEGIN TRANSACTION;
CREATE TABLE acknowledgements (
	person_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	label VARCHAR(80) NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_acknowledgements PRIMARY KEY (person_id, project_id, label), 
	CONSTRAINT fk_acknowledgements_person_id FOREIGN KEY(person_id) REFERENCES people (person_id), 
	CONSTRAINT fk_acknowledgements_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id)
);
INSERT INTO "acknowledgements" VALUES(1,1,'helpfulness@1e6779a5',1.7952811862552666664e+09);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE flags (
	flag_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	person_id INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_flags PRIMARY KEY (flag_id), 
	CONSTRAINT fk_flags_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id), 
	CONSTRAINT fk_flags_person_id FOREIGN KEY(person_id) REFERENCES people (person_id)
);
CREATE TABLE guidelines (
	guideline_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	label VARCHAR(80) NOT NULL, 
	card JSON NOT NULL, 
	text TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_guidelines PRIMARY KEY (guideline_id), 
	CONSTRAINT uq_guidelines_project_id UNIQUE (project_id, label), 
	CONSTRAINT fk_guidelines_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id)
);
INSERT INTO "guidelines" VALUES(1,1,'helpfulness@1e6779a5','{"name": "helpfulness", "version": "1", "instructions": "You are a careful judge of answers given to users. Work out first what the user needs, and what a good answer would\nhave to contain. Then judge what is really there: a claim counts only if it is right, a step only if it works, a\npiece of code only if it would run. Length, politeness, confidence and formatting are worth nothing by themselves.", "question": "Which response is more helpful to the user?", "aspects": [{"name": "overall", "text": "Does the response give the user what the prompt asks for: correct, complete as far as is needed, to the point, in the form and language that were asked for?", "scale": {"type": "ordinal", "min": 1.0, "max": 5.0, "anchors": ["useless - off the topic, wrong throughout, or empty", "poor - touches the request, but mistakes or gaps make it of little use", "fair - usable in part; the user must correct or complete it", "good - does what was asked, with small flaws", "excellent - right, complete and clear; a knowledgeable person would change nothing that matters"]}, "direction": "higher"}], "protocols": ["compare", "score"], "sees": ["context", "prompt", "system"], "output": {"reason": true, "ties": true}, "orders": "both", "samples": 1}','',1.79528118617489480975e+09);
CREATE TABLE invitations (
	token VARCHAR(64) NOT NULL, 
	person_id INTEGER NOT NULL, 
	expires_at FLOAT NOT NULL, 
	used_at FLOAT, 
	CONSTRAINT pk_invitations PRIMARY KEY (token), 
	CONSTRAINT fk_invitations_person_id FOREIGN KEY(person_id) REFERENCES people (person_id)
);
INSERT INTO "invitations" VALUES('ad6ce0cbfbfe6316c10f29fc4b3d6ec147a5baf51deb6b0dbb7fd6459c47c2cc',1,1.79649078584746980666e+09,1.79528118606463932987e+09);
CREATE TABLE labels (
	label_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	answer JSON NOT NULL, 
	shown JSON NOT NULL, 
	guideline VARCHAR(80) NOT NULL, 
	seconds FLOAT NOT NULL, 
	created_at FLOAT NOT NULL, 
	client_key VARCHAR(64) NOT NULL, 
	pulled BOOLEAN NOT NULL, 
	CONSTRAINT pk_labels PRIMARY KEY (label_id), 
	CONSTRAINT uq_labels_task_id UNIQUE (task_id, person_id, revision), 
	CONSTRAINT fk_labels_task_id FOREIGN KEY(task_id) REFERENCES tasks (task_id), 
	CONSTRAINT fk_labels_person_id FOREIGN KEY(person_id) REFERENCES people (person_id), 
	CONSTRAINT fk_labels_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id), 
	CONSTRAINT uq_labels_client_key UNIQUE (client_key)
);
INSERT INTO "labels" VALUES(1,1,1,1,1,'label','ok','{"choice": 1}','[1, 0]','helpfulness@1e6779a5',2.5,1795281186.31486,'1:k1',0);
CREATE TABLE people (
	person_id INTEGER NOT NULL, 
	login VARCHAR(120), 
	pseudonym VARCHAR(60) NOT NULL, 
	password VARCHAR(200), 
	role VARCHAR(20) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	groups JSON NOT NULL, 
	skills JSON NOT NULL, 
	pay FLOAT, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_people PRIMARY KEY (person_id), 
	CONSTRAINT uq_people_login UNIQUE (login), 
	CONSTRAINT uq_people_pseudonym UNIQUE (pseudonym)
);
INSERT INTO "people" VALUES(1,'login-0','ann-01','plain:a long password','annotator','active','[]','[]',NULL,1.7952811858379068375e+09);
CREATE TABLE projects (
	project_id INTEGER NOT NULL, 
	name VARCHAR(60) NOT NULL, 
	spec JSON NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	guideline VARCHAR(80) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (project_id), 
	CONSTRAINT uq_projects_name UNIQUE (name)
);
INSERT INTO "projects" VALUES(1,'p','{"name": "p", "protocol": "compare", "card": "helpfulness", "guidelines": "", "question": "", "overlap": 1, "responses": 0, "pairs": "all", "order": "random", "points": 7, "both_bad": true, "ties": true, "top": 0, "best": 1, "none": false, "input": "likert", "span_labels": ["wrong", "unsupported", "good"], "rationale": "none", "confidence": false, "reasons": [], "may_skip": true, "skip_reasons": ["I do not know enough about this", "unclear prompt", "I would rather not", "something else"], "warning": "", "gold": "", "gold_share": 0.1, "qualify": 0, "pass_mark": 0.7, "people": [], "groups": [], "skills": [], "require": "", "split": false, "quota": 0, "quota_day": 0, "route": "all", "route_by": "*", "route_aspect": "overall", "budget": 0, "lease": 20, "idle": 60}','open','helpfulness@1e6779a5',1.79528118617640781396e+09);
CREATE TABLE questions (
	question_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	answer TEXT, 
	created_at FLOAT NOT NULL, 
	answered_at FLOAT, 
	CONSTRAINT pk_questions PRIMARY KEY (question_id), 
	CONSTRAINT fk_questions_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id), 
	CONSTRAINT fk_questions_task_id FOREIGN KEY(task_id) REFERENCES tasks (task_id), 
	CONSTRAINT fk_questions_person_id FOREIGN KEY(person_id) REFERENCES people (person_id)
);
CREATE TABLE sessions (
	token VARCHAR(64) NOT NULL, 
	person_id INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (token), 
	CONSTRAINT fk_sessions_person_id FOREIGN KEY(person_id) REFERENCES people (person_id)
);
CREATE TABLE settings (
	"key" VARCHAR(64) NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_settings PRIMARY KEY ("key")
);
CREATE TABLE tasks (
	task_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
	group_id VARCHAR(32) NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	target_ids JSON NOT NULL, 
	requires VARCHAR(60), 
	person_id INTEGER, 
	gold JSON, 
	priority FLOAT NOT NULL, 
	wanted INTEGER NOT NULL, 
	free INTEGER NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	CONSTRAINT pk_tasks PRIMARY KEY (task_id), 
	CONSTRAINT uq_tasks_project_id UNIQUE (project_id, "key"), 
	CONSTRAINT fk_tasks_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id), 
	CONSTRAINT fk_tasks_person_id FOREIGN KEY(person_id) REFERENCES people (person_id)
);
INSERT INTO "tasks" VALUES(1,1,'ecef7d157c8b9f1e1f4c563aadc07de7','55a5e269980df4e297becaad77631527','55a5e269980df4e297becaad77631527','["7fe6c0a07d1d82aaba0c7b839914b8e5", "ff2b39d305fd5eac0b615fec2fd1860c"]',NULL,NULL,NULL,0.0,1,0,'open');
CREATE TABLE throttle (
	"key" VARCHAR(200) NOT NULL, 
	failures INTEGER NOT NULL, 
	until FLOAT NOT NULL, 
	CONSTRAINT pk_throttle PRIMARY KEY ("key")
);
CREATE TABLE work (
	task_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	gold BOOLEAN NOT NULL, 
	shown JSON NOT NULL, 
	leased_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	done_at FLOAT, 
	CONSTRAINT pk_work PRIMARY KEY (task_id, person_id), 
	CONSTRAINT fk_work_task_id FOREIGN KEY(task_id) REFERENCES tasks (task_id), 
	CONSTRAINT fk_work_person_id FOREIGN KEY(person_id) REFERENCES people (person_id), 
	CONSTRAINT fk_work_project_id FOREIGN KEY(project_id) REFERENCES projects (project_id)
);
INSERT INTO "work" VALUES(1,1,1,'done',0,'[1, 0]',1.79528118627510786062e+09,1.79528238627510786052e+09,1795281186.31486);
CREATE INDEX ix_sessions_person_id ON sessions (person_id);
CREATE INDEX ix_tasks_prompt ON tasks (prompt_id);
CREATE INDEX ix_tasks_next ON tasks (project_id, state, priority DESC, task_id) WHERE free > 0;
CREATE INDEX ix_flags_prompt_id ON flags (prompt_id);
CREATE INDEX ix_work_expiry ON work (state, expires_at);
CREATE INDEX ix_work_person ON work (person_id, project_id, state, done_at);
CREATE INDEX ix_labels_pulled ON labels (pulled, label_id);
CREATE INDEX ix_labels_person ON labels (person_id, created_at);
CREATE INDEX ix_labels_project ON labels (project_id, task_id);
COMMIT;
