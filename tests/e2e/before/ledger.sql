SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
ALTER TABLE public.alembic_version OWNER TO etlpay_owner;
CREATE TABLE public.conflicts (
    id bigint NOT NULL,
    raw_event_id bigint NOT NULL,
    channel smallint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    content_type text NOT NULL,
    origin text,
    body bytea NOT NULL,
    body_sha256 bytea NOT NULL
);
ALTER TABLE public.conflicts OWNER TO etlpay_owner;
ALTER TABLE public.conflicts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.conflicts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.ingestion_sources (
    id integer NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.ingestion_sources OWNER TO etlpay_owner;
CREATE TABLE public.processed_records (
    id bigint NOT NULL,
    raw_event_id bigint NOT NULL,
    source_id integer NOT NULL,
    channel smallint NOT NULL,
    status smallint NOT NULL,
    attempt smallint DEFAULT 1 NOT NULL,
    result_payload jsonb,
    errors jsonb,
    processed_at timestamp with time zone NOT NULL
);
ALTER TABLE public.processed_records OWNER TO etlpay_owner;
CREATE TABLE public.raw_events (
    id bigint NOT NULL,
    event_id uuid NOT NULL,
    source_id integer NOT NULL,
    idempotency_key text,
    channel smallint NOT NULL,
    type text,
    occurred_at timestamp with time zone,
    received_at timestamp with time zone NOT NULL,
    stored_at timestamp with time zone DEFAULT now() NOT NULL,
    content_type text NOT NULL,
    origin text,
    body bytea NOT NULL
);
ALTER TABLE public.raw_events OWNER TO etlpay_owner;
CREATE VIEW public.events AS
 SELECT raw.id AS raw_event_id,
    raw.event_id,
    source.name AS source,
    raw.idempotency_key,
        CASE raw.channel
            WHEN 1 THEN 'http'::text
            WHEN 2 THEN 'grpc'::text
            WHEN 3 THEN 'file'::text
            WHEN 4 THEN 'queue'::text
            ELSE NULL::text
        END AS channel,
    raw.type,
    raw.occurred_at,
    raw.received_at,
    raw.stored_at,
    raw.content_type,
    raw.origin,
    raw.body,
    record.id AS record_id,
    record.attempt,
    record.processed_at,
        CASE record.status
            WHEN 1 THEN 'SUCCESS'::text
            WHEN 2 THEN 'FAILED'::text
            ELSE NULL::text
        END AS status,
        CASE
            WHEN (record.result_payload IS NOT NULL) THEN record.result_payload
            WHEN (record.status = 1) THEN (convert_from(raw.body, 'UTF8'::name))::jsonb
            ELSE NULL::jsonb
        END AS payload,
    record.errors
   FROM ((public.raw_events raw
     JOIN public.ingestion_sources source ON ((source.id = raw.source_id)))
     JOIN public.processed_records record ON ((record.raw_event_id = raw.id)));
ALTER VIEW public.events OWNER TO etlpay_owner;
ALTER TABLE public.ingestion_sources ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.ingestion_sources_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE SEQUENCE public.ledger_id_blocks
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.ledger_id_blocks OWNER TO etlpay_owner;
CREATE TABLE public.receipts (
    instance uuid NOT NULL,
    number bigint NOT NULL,
    source text NOT NULL,
    channel smallint NOT NULL,
    hour timestamp with time zone NOT NULL,
    service text NOT NULL,
    reported_at timestamp with time zone DEFAULT now() NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    conflict bigint NOT NULL,
    refused bigint NOT NULL,
    queued bigint NOT NULL,
    unknown bigint NOT NULL
);
ALTER TABLE public.receipts OWNER TO etlpay_owner;
CREATE TABLE public.settlements (
    event_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    source_id integer NOT NULL,
    channel smallint NOT NULL,
    disposition smallint NOT NULL
);
ALTER TABLE public.settlements OWNER TO etlpay_owner;
INSERT INTO public.alembic_version VALUES ('0002');
INSERT INTO public.conflicts OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, '2026-11-27 20:41:07.76973+00', 'application/json', NULL, '\x7b22616d6f756e74223a20392e39397d', '\x8e945509749a0e9198624bd6f943f1d84b79d820a863fb973217c58e17fbf48f');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (1, 'before-http', '2026-11-27 20:41:07.659024+00');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (2, 'before-grpc', '2026-11-27 20:41:07.883302+00');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (3, 'before-queue', '2026-11-27 20:41:07.908765+00');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (4, 'before-file', '2026-11-27 20:41:08.910066+00');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (5, 'before-in-place', '2026-11-27 20:41:13.549899+00');
INSERT INTO public.ingestion_sources OVERRIDING SYSTEM VALUE VALUES (6, 'before-half', '2026-11-27 20:42:58.571193+00');
INSERT INTO public.processed_records VALUES (1, 1, 1, 1, 1, 1, NULL, NULL, '2026-11-27 20:41:07.658752+00');
INSERT INTO public.processed_records VALUES (4, 4, 1, 1, 1, 1, NULL, NULL, '2026-11-27 20:41:07.808598+00');
INSERT INTO public.processed_records VALUES (5, 5, 1, 1, 1, 1, NULL, NULL, '2026-11-27 20:41:07.827945+00');
INSERT INTO public.processed_records VALUES (6, 6, 2, 2, 1, 1, NULL, NULL, '2026-11-27 20:41:07.883049+00');
INSERT INTO public.processed_records VALUES (7, 7, 3, 4, 1, 1, NULL, NULL, '2026-11-27 20:41:07.908313+00');
INSERT INTO public.processed_records VALUES (10, 10, 3, 4, 2, 1, NULL, '[{"detail": "must be valid JSON", "pointer": ""}]', '2026-11-27 20:41:07.921504+00');
INSERT INTO public.processed_records VALUES (9, 9, 3, 4, 1, 1, NULL, NULL, '2026-11-27 20:41:07.921504+00');
INSERT INTO public.processed_records VALUES (8, 8, 3, 4, 1, 1, NULL, NULL, '2026-11-27 20:41:07.921504+00');
INSERT INTO public.processed_records VALUES (16, 16, 4, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (15, 15, 4, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (11, 11, 4, 3, 1, 1, '{"name": "A", "amount": "1.10"}', NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (13, 13, 4, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (12, 12, 4, 3, 1, 1, '{"name": "B", "amount": "2.20"}', NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (14, 14, 4, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:08.909625+00');
INSERT INTO public.processed_records VALUES (17, 17, 5, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:13.549291+00');
INSERT INTO public.processed_records VALUES (18, 18, 5, 3, 1, 1, NULL, NULL, '2026-11-27 20:41:13.549291+00');
INSERT INTO public.processed_records VALUES (1001, 1001, 6, 3, 1, 1, NULL, NULL, '2026-11-27 20:42:58.570807+00');
INSERT INTO public.processed_records VALUES (1002, 1002, 6, 3, 1, 1, NULL, NULL, '2026-11-27 20:42:58.570807+00');
INSERT INTO public.processed_records VALUES (1003, 1003, 6, 3, 1, 1, NULL, NULL, '2026-11-27 20:42:58.57338+00');
INSERT INTO public.processed_records VALUES (1004, 1004, 6, 3, 1, 1, NULL, NULL, '2026-11-27 20:42:58.57338+00');
INSERT INTO public.raw_events VALUES (1, 'f3725185-60e2-5427-9a5b-c997f5e05b2c', 1, 'order-1', 1, NULL, NULL, '2026-11-27 20:41:07.656991+00', '2026-11-27 20:41:07.71104+00', 'application/json', NULL, '\x7b22616d6f756e74223a20312e31307d');
INSERT INTO public.raw_events VALUES (4, '15d7b0bc-b101-5dc0-90b5-06bcf651edd2', 1, 'order-2', 1, NULL, NULL, '2026-11-27 20:41:07.807039+00', '2026-11-27 20:41:07.808961+00', 'application/json', NULL, '\x7b22616d6f756e74223a2022325e227d');
INSERT INTO public.raw_events VALUES (5, '01a21ebd-89f1-7617-ac88-e9005e022bcb', 1, NULL, 1, NULL, NULL, '2026-11-27 20:41:07.82517+00', '2026-11-27 20:41:07.828268+00', 'application/json', NULL, '\x7b22616e6f6e796d6f7573223a20747275657d');
INSERT INTO public.raw_events VALUES (6, '01a21ebd-8a23-7400-897a-428fa089b851', 2, NULL, 2, NULL, NULL, '2026-11-27 20:41:07.875277+00', '2026-11-27 20:41:07.88809+00', 'application/json', NULL, '\x7b2276616c7565223a20332e33307d');
INSERT INTO public.raw_events VALUES (7, '1e9a9571-d008-583f-9751-a7be0af42daa', 3, 'mid:m-1:6515ec5799583875', 4, NULL, NULL, '2026-11-27 20:41:07.902778+00', '2026-11-27 20:41:07.914648+00', 'application/json', 'queue:etl-queue', '\x7b22616d6f756e74223a20352e35307d');
INSERT INTO public.raw_events VALUES (10, '0593a4df-bb08-5ac8-b9ed-30c693771728', 3, 'mid:m-2:7ccfa1fbf3940e6f', 4, NULL, NULL, '2026-11-27 20:41:07.912334+00', '2026-11-27 20:41:08.028571+00', 'application/json', 'queue:etl-queue', '\x6e6f74206a736f6e');
INSERT INTO public.raw_events VALUES (9, '776ff0d6-0e1a-554b-927c-c44e7f0f37ee', 3, 'array-1#1', 4, NULL, NULL, '2026-11-27 20:41:07.912333+00', '2026-11-27 20:41:08.028571+00', 'application/json', 'queue:etl-queue', '\x7b22616d6f756e74223a20372e37307d');
INSERT INTO public.raw_events VALUES (8, 'e64104fa-c312-54de-8748-ca71de77418a', 3, 'array-1#0', 4, NULL, NULL, '2026-11-27 20:41:07.912332+00', '2026-11-27 20:41:08.028571+00', 'application/json', 'queue:etl-queue', '\x7b22616d6f756e74223a20362e36307d');
INSERT INTO public.raw_events VALUES (16, '18e1a27b-1b41-5177-bd53-a19d63b7a8c0', 4, 'row-1', 3, NULL, NULL, '2026-11-27 20:41:08.902337+00', '2026-11-27 20:41:08.917118+00', 'application/json', 'named.ndjson:1', '\x7b226964223a2022726f772d31222c2022616d6f756e74223a20347d');
INSERT INTO public.raw_events VALUES (15, '4a16560e-887b-5221-8fc9-072bc68ceae9', 4, 'file:85846d2259e64bc879e0b8194d1b43ee:3', 3, NULL, NULL, '2026-11-27 20:41:08.901045+00', '2026-11-27 20:41:08.917118+00', 'application/json', 'taken.ndjson:3', '\x7b22616d6f756e74223a20312e31307d');
INSERT INTO public.raw_events VALUES (11, '501297a8-79b9-5fbf-88a1-be57420d8ec9', 4, 'file:1d30136cb58d2b6c69b8d06a24c80138:2', 3, NULL, NULL, '2026-11-27 20:41:08.901543+00', '2026-11-27 20:41:08.917118+00', 'text/csv; header=present', 'taken.csv:2', '\x6e616d652c616d6f756e740a412c312e3130');
INSERT INTO public.raw_events VALUES (13, '702c9dad-2ba7-52a3-ab02-26a06f700487', 4, 'file:85846d2259e64bc879e0b8194d1b43ee:1', 3, NULL, NULL, '2026-11-27 20:41:08.901043+00', '2026-11-27 20:41:08.917118+00', 'application/json', 'taken.ndjson:1', '\x7b22616d6f756e74223a20312e31307d');
INSERT INTO public.raw_events VALUES (12, 'aa2792e1-f5e5-5223-ae25-f7c4bf6ea640', 4, 'file:1d30136cb58d2b6c69b8d06a24c80138:3', 3, NULL, NULL, '2026-11-27 20:41:08.901544+00', '2026-11-27 20:41:08.917118+00', 'text/csv; header=present', 'taken.csv:3', '\x6e616d652c616d6f756e740a422c322e3230');
INSERT INTO public.raw_events VALUES (14, 'fc192217-bdb8-531d-9cf0-e6412fd525f2', 4, 'file:85846d2259e64bc879e0b8194d1b43ee:2', 3, NULL, NULL, '2026-11-27 20:41:08.901044+00', '2026-11-27 20:41:08.917118+00', 'application/json', 'taken.ndjson:2', '\x7b22616d6f756e74223a20322e32307d');
INSERT INTO public.raw_events VALUES (17, 'a8accfcb-6aff-50e2-a6e3-710a22ac8406', 5, 'row:51df2d1de72b5fdb3fd0a46d4546c90d:1', 3, NULL, NULL, '2026-11-27 20:41:13.516116+00', '2026-11-27 20:41:13.594855+00', 'application/json', 'feed.ndjson:1', '\x7b2272656164696e67223a20317d');
INSERT INTO public.raw_events VALUES (18, 'ece7ef22-a786-5690-b3b1-4be469fe6db3', 5, 'row:85598db2b3df535eaed86c86eeb4c0bc:1', 3, NULL, NULL, '2026-11-27 20:41:13.516117+00', '2026-11-27 20:41:13.594855+00', 'application/json', 'feed.ndjson:2', '\x7b2272656164696e67223a20327d');
INSERT INTO public.raw_events VALUES (1001, 'cbd5a9a3-db98-5311-afbf-d101b7f488e2', 6, 'file:65398f6504aaddd1ffe0b655ade8f19b:1', 3, NULL, NULL, '2026-11-27 20:42:58.558732+00', '2026-11-27 20:42:58.747229+00', 'application/json', 'half.ndjson:1', '\x7b22726f77223a20307d');
INSERT INTO public.raw_events VALUES (1002, 'ef86850c-0587-5741-a017-b162aeee4211', 6, 'file:65398f6504aaddd1ffe0b655ade8f19b:2', 3, NULL, NULL, '2026-11-27 20:42:58.558733+00', '2026-11-27 20:42:58.747229+00', 'application/json', 'half.ndjson:2', '\x7b22726f77223a20317d');
INSERT INTO public.raw_events VALUES (1003, '0246c6fa-c122-5ce5-913f-158c000c7ec7', 6, 'file:65398f6504aaddd1ffe0b655ade8f19b:3', 3, NULL, NULL, '2026-11-27 20:42:58.565212+00', '2026-11-27 20:42:58.759848+00', 'application/json', 'half.ndjson:3', '\x7b22726f77223a20327d');
INSERT INTO public.raw_events VALUES (1004, 'd0d12cd8-f026-55ea-9919-0c72a2f57332', 6, 'file:65398f6504aaddd1ffe0b655ade8f19b:4', 3, NULL, NULL, '2026-11-27 20:42:58.565213+00', '2026-11-27 20:42:58.759848+00', 'application/json', 'half.ndjson:4', '\x7b22726f77223a20337d');
INSERT INTO public.receipts VALUES ('b91a4659-cb6d-4495-97e0-cd56db011ed4', 1, 'before-queue', 4, '2026-11-27 20:00:00+00', 'queue-consumer', '2026-11-27 20:41:10.887433+00', 0, 0, 0, 0, 4, 0);
INSERT INTO public.receipts VALUES ('b173b6cd-2c7e-4efd-a68a-a461e123b4f6', 1, 'before-file', 3, '2026-11-27 20:00:00+00', 'file-watcher', '2026-11-27 20:41:12.315011+00', 0, 0, 0, 0, 6, 0);
INSERT INTO public.receipts VALUES ('0d7bdfc4-d6ca-4c13-9af0-4f43bf559e49', 1, 'before-grpc', 2, '2026-11-27 20:00:00+00', 'grpc-ingest', '2026-11-27 20:41:12.652079+00', 1, 0, 0, 0, 0, 0);
INSERT INTO public.receipts VALUES ('5c928987-c602-4b59-8bb4-9188a6e74ad2', 1, 'before-http', 1, '2026-11-27 20:00:00+00', 'api-gateway', '2026-11-27 20:41:15.019738+00', 3, 1, 1, 0, 0, 0);
INSERT INTO public.receipts VALUES ('4c07e286-a386-4618-b102-d5ed3be2c509', 1, 'before-in-place', 3, '2026-11-27 20:00:00+00', 'file-watcher', '2026-11-27 20:41:16.922997+00', 0, 0, 0, 0, 2, 0);
SELECT pg_catalog.setval('public.conflicts_id_seq', 1, true);
SELECT pg_catalog.setval('public.ingestion_sources_id_seq', 7, true);
SELECT pg_catalog.setval('public.ledger_id_blocks', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.conflicts
    ADD CONSTRAINT conflicts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.conflicts
    ADD CONSTRAINT conflicts_raw_event_id_body_sha256_key UNIQUE (raw_event_id, body_sha256);
ALTER TABLE ONLY public.ingestion_sources
    ADD CONSTRAINT ingestion_sources_name_key UNIQUE (name);
ALTER TABLE ONLY public.ingestion_sources
    ADD CONSTRAINT ingestion_sources_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.processed_records
    ADD CONSTRAINT processed_records_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.raw_events
    ADD CONSTRAINT raw_events_event_id_key UNIQUE (event_id);
ALTER TABLE ONLY public.raw_events
    ADD CONSTRAINT raw_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_pkey PRIMARY KEY (instance, number, source, channel, hour);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT settlements_pkey PRIMARY KEY (event_id, received_at, channel);
CREATE INDEX processed_records_by_source ON public.processed_records USING btree (source_id, processed_at, id);
CREATE INDEX processed_records_by_time ON public.processed_records USING btree (processed_at, id);
CREATE INDEX processed_records_failed ON public.processed_records USING btree (processed_at, id) WHERE (status = 2);
CREATE UNIQUE INDEX processed_records_of_event ON public.processed_records USING btree (raw_event_id, attempt);
CREATE INDEX raw_events_by_arrival ON public.raw_events USING brin (received_at) WITH (autosummarize='true');
CREATE INDEX receipts_by_hour ON public.receipts USING btree (hour);
CREATE INDEX settlements_by_arrival ON public.settlements USING brin (received_at) WITH (autosummarize='true');
ALTER TABLE ONLY public.conflicts
    ADD CONSTRAINT conflicts_raw_event_id_fkey FOREIGN KEY (raw_event_id) REFERENCES public.raw_events(id);
ALTER TABLE ONLY public.processed_records
    ADD CONSTRAINT processed_records_raw_event_id_fkey FOREIGN KEY (raw_event_id) REFERENCES public.raw_events(id);
ALTER TABLE ONLY public.raw_events
    ADD CONSTRAINT raw_events_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.ingestion_sources(id);
GRANT USAGE ON SCHEMA public TO etlpay_processor;
GRANT USAGE ON SCHEMA public TO etlpay_reader;
GRANT SELECT ON TABLE public.alembic_version TO etlpay_processor;
GRANT SELECT ON TABLE public.alembic_version TO etlpay_reader;
GRANT SELECT,INSERT ON TABLE public.conflicts TO etlpay_processor;
GRANT SELECT ON TABLE public.conflicts TO etlpay_reader;
GRANT SELECT,INSERT ON TABLE public.ingestion_sources TO etlpay_processor;
GRANT SELECT ON TABLE public.ingestion_sources TO etlpay_reader;
GRANT SELECT,INSERT ON TABLE public.processed_records TO etlpay_processor;
GRANT SELECT ON TABLE public.processed_records TO etlpay_reader;
GRANT SELECT,INSERT ON TABLE public.raw_events TO etlpay_processor;
GRANT SELECT ON TABLE public.raw_events TO etlpay_reader;
GRANT SELECT ON TABLE public.events TO etlpay_reader;
GRANT USAGE ON SEQUENCE public.ledger_id_blocks TO etlpay_processor;
GRANT SELECT,INSERT ON TABLE public.receipts TO etlpay_processor;
GRANT SELECT ON TABLE public.receipts TO etlpay_reader;
GRANT SELECT,INSERT ON TABLE public.settlements TO etlpay_processor;
GRANT SELECT ON TABLE public.settlements TO etlpay_reader;
