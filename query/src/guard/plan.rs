//! From SQL text to a plan that only reads.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};

use crate::error::QueryError;

/// Parses, refuses everything but one query, plans and binds the parameters.
pub(crate) async fn plan(
    state: &SessionState,
    sql: &str,
    parameters: &[ScalarValue],
    all_tenants: bool,
) -> Result<LogicalPlan, QueryError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    if !only_reads(&statement) {
        return Err(QueryError::ReadOnly(first_word(sql)));
    }
    let plan = state.statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&plan).map_err(|error| QueryError::ReadOnly(error.strip_backtrace()))?;
    if !all_tenants && measures(&plan)? {
        // Its counters are taken below the tenant filter.
        return Err(QueryError::Sql("EXPLAIN ANALYZE needs an admin key: it counts the rows of all tenants".into()));
    }
    if parameters.is_empty() && !sql.contains('$') {
        return Ok(plan);
    }
    Ok(plan.with_param_values(parameters.to_vec())?)
}

fn only_reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => sql_only_reads(statement),
        Statement::Explain(explain) => only_reads(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn sql_only_reads(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Query(query) => body_only_reads(&query.body),
        SqlStatement::Explain { statement, .. } => sql_only_reads(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowVariables { .. }
        | SqlStatement::ShowCreate { .. }
        | SqlStatement::ShowSchemas { .. }
        | SqlStatement::ShowDatabases { .. }
        | SqlStatement::ShowCatalogs { .. }
        | SqlStatement::ShowViews { .. } => true,
        _ => false,
    }
}

/// `WITH … INSERT` parses as a query.
fn body_only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Query(query) => body_only_reads(&query.body),
        SetExpr::SetOperation { left, right, .. } => body_only_reads(left) && body_only_reads(right),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

fn measures(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let mut found = false;
    plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Analyze(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn first_word(sql: &str) -> String {
    let word: String = sql.trim_start().chars().take_while(|c| c.is_ascii_alphabetic()).take(20).collect();
    format!("{} is none", if word.is_empty() { "this".to_owned() } else { word.to_ascii_uppercase() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    async fn fault(sql: &str) -> &'static str {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_file_formats(Vec::new())
            .with_table_factories(HashMap::new())
            .build();
        match plan(&state, sql, &[], false).await {
            Ok(_) => "none",
            Err(QueryError::ReadOnly(_)) => "read-only",
            Err(QueryError::Sql(_)) => "sql",
            Err(_) => "other",
        }
    }

    #[tokio::test]
    async fn lets_queries_pass_and_nothing_else() {
        for good in
            ["SELECT 1", "EXPLAIN SELECT 1", "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "VALUES (1)", "SELECT 1;"]
        {
            assert_eq!(fault(good).await, "none", "{good}");
        }
        let changing = [
            "INSERT INTO calls VALUES (1)",
            "DELETE FROM calls",
            "UPDATE calls SET a = 1",
            "CREATE TABLE x AS SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "DROP TABLE calls",
            "SET datafusion.execution.batch_size = 1",
            "ALTER TABLE calls ADD COLUMN x INT",
            "BEGIN",
            "EXPLAIN INSERT INTO calls VALUES (1)",
        ];
        for changing in changing {
            assert_eq!(fault(changing).await, "read-only", "{changing}");
        }
    }

    #[tokio::test]
    async fn names_wrong_sql() {
        for wrong in [
            "",
            "SELEC 1",
            "SELECT 1; SELECT 2",
            "SELECT * FROM '/etc/passwd'",
            "SELECT $1",
            "EXPLAIN ANALYZE SELECT 1",
        ] {
            assert_eq!(fault(wrong).await, "sql", "{wrong}");
        }
    }
}
