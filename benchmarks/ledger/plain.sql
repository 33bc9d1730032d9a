-- What the ledger is measured beside: a plain double-entry ledger as one would write it in PL/pgSQL, tuned like ours. Bigint
-- account ids, uuidv7 transaction ids, row locks in key order, balance update, header, two entries. No idempotency, no holds,
-- no append-only guard, no check at commit, no foreign keys.
CREATE SCHEMA plain;

CREATE TABLE plain.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    currency text NOT NULL,
    balance bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE TABLE plain.txn (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    kind text NOT NULL,
    posted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE plain.entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txn_id uuid NOT NULL,
    account_id bigint NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    version bigint NOT NULL
);
CREATE INDEX ON plain.entry (account_id, version);

CREATE FUNCTION plain.transfer(p_from bigint, p_to bigint, p_amount bigint, p_kind text) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
    v_from record;
    v_to record;
BEGIN
    PERFORM FROM plain.account WHERE id = least(p_from, p_to) FOR UPDATE;
    PERFORM FROM plain.account WHERE id = greatest(p_from, p_to) FOR UPDATE;
    UPDATE plain.account SET balance = balance - p_amount, version = version + 1
     WHERE id = p_from RETURNING balance, version INTO v_from;
    UPDATE plain.account SET balance = balance + p_amount, version = version + 1
     WHERE id = p_to RETURNING balance, version INTO v_to;
    INSERT INTO plain.txn (kind) VALUES (p_kind) RETURNING id INTO v_id;
    INSERT INTO plain.entry (txn_id, account_id, amount, balance_after, version)
    VALUES (v_id, p_from, -p_amount, v_from.balance, v_from.version), (v_id, p_to, p_amount, v_to.balance, v_to.version);
    RETURN v_id;
END $$;

INSERT INTO plain.account (currency) SELECT 'USD' FROM generate_series(1, 10000);
VACUUM ANALYZE plain.account;
