#!/bin/sh
# Says how the archive is when that has changed since the last time, and else nothing. For those
# without Prometheus; from cron, which mails what is printed:
#
#   */10 * * * *   "$HOME/convmem/examples/health_alert.sh"
#
# ALERT is a command that gets the message on its standard input instead, such as
#
#   ALERT='mail -s "convmem on $(hostname)" you@example.org'
#   ALERT='curl -fsS --data-binary @- https://ntfy.sh/a-topic-of-yours'
#
# An alert that fails is tried again the next time. What was said last is kept in the file that is
# named as the first word, else in ~/.convmem-health.
set -u
PATH="$HOME/.local/bin:$PATH" # where pipx puts programs, which cron does not know
last=${1:-$HOME/.convmem-health}

told=$(convmem health 2>&1)
code=$?
case $code in
  0) is=healthy ;;
  1) is=degraded ;;
  4) is=unhealthy ;;
  *) is="not to be told (exit code $code)" ;;
esac

# Who begins with this is told nothing while all is well.
was=$(cat "$last" 2>/dev/null || echo healthy)
[ "$is" != "$was" ] || exit 0
printf 'convmem was %s and is %s\n\n%s\n' "$was" "$is" "$told" | sh -c "${ALERT:-cat}" || exit
printf '%s\n' "$is" >"$last"
