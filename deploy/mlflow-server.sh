#!/bin/bash
# An MLflow server on PostgreSQL with basic authentication (deploy/mlflow.md). Secrets come in files and stay out of the command line.
#
#   POSTGRES_HOST, POSTGRES_PORT (5432), POSTGRES_USER (mlflow), POSTGRES_DB (mlflow), POSTGRES_PASSWORD_FILE
#   MLFLOW_ADMIN_PASSWORD_FILE   of the user `admin`, at least 12 characters; read at the first start
#   ARTIFACTS                    a folder, or s3://bucket/folder with keys in the environment
#   ALLOWED_HOSTS                names under which clients may call it; * is any
#   HOST (0.0.0.0), PORT (5000)
set -euo pipefail
: "${POSTGRES_HOST:?}" "${POSTGRES_PASSWORD_FILE:?}" "${MLFLOW_ADMIN_PASSWORD_FILE:?}" "${ARTIFACTS:?}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The database's password goes to a file that PostgreSQL's client library reads; the users' passwords are hashed in the database.
export PGPASSFILE=$folder/pgpass MLFLOW_AUTH_CONFIG_PATH=$folder/auth.ini MLFLOW_FLASK_SERVER_SECRET_KEY
umask 077
password=$(sed 's/[\\:]/\\&/g' "$POSTGRES_PASSWORD_FILE")
echo "*:*:*:*:$password" > "$PGPASSFILE"
export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://${POSTGRES_USER:-mlflow}@$POSTGRES_HOST:${POSTGRES_PORT:-5432}/${POSTGRES_DB:-mlflow}"
# `%` begins a reference in such a file.
cat > "$MLFLOW_AUTH_CONFIG_PATH" << END
[mlflow]
default_permission = READ
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = admin
admin_password = $(sed 's/%/%%/g' "$MLFLOW_ADMIN_PASSWORD_FILE")
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
MLFLOW_FLASK_SERVER_SECRET_KEY=$(python -c 'import secrets; print(secrets.token_hex(32))')

mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
mlflow server --app-name=basic-auth --host="${HOST:-0.0.0.0}" --port="${PORT:-5000}" --allowed-hosts="${ALLOWED_HOSTS:-*}" \
    --artifacts-destination="$ARTIFACTS" --workers="${WORKERS:-2}" &
server=$!
trap 'kill $server 2> /dev/null || true' TERM INT
status=0
wait $server || status=$?
wait $server || true    # after a signal: the first returns at once
exit $status
